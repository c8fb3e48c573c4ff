"""For all tests. A suite that was started in the background of a script has SIGINT ignored, and so would every process that it
starts: tests that send Ctrl-C would wait for ever. A handler of our own makes it the default again in our children."""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
