"""How a command ends: an exit code, and for every failure one line on stderr that says what to do.

Not here: what the lines say (where the failure is known, there the line is written).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Final

from riverlog.base.errors import ErrorKind, RiverlogError

DONE: Final = 0
FAILED: Final = 1
WRONG_USE: Final = 2


class CommandError(Exception):
    """A command cannot go on. `status` is the exit code."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


def say(message: str) -> None:
    """One line on stderr."""
    print(f"riverlog: {' '.join(message.split())}", file=sys.stderr)


def guarded(command: Callable[[], int]) -> int:
    """The exit code of `command`. Failures become lines; Ctrl-C and a reader who has had enough end it quietly."""
    try:
        status = command()
        sys.stdout.flush()
        return status
    except CommandError as error:
        say(error.message)
        return error.status
    except RiverlogError as error:
        say(error.message)
        return WRONG_USE if error.kind is ErrorKind.INVALID_CONFIG else FAILED
    except KeyboardInterrupt:
        return FAILED
    except BrokenPipeError:
        forget_stdout()
        return DONE
    except OSError as error:
        say(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
        return FAILED


def forget_stdout() -> None:
    """Nobody reads stdout any more: what is still buffered goes nowhere, so that the interpreter's own flush at the end
    does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
