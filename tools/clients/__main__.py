"""`python -m tools.clients [NAME ...]`: install what the client tests need; all of it where nothing is named.

Exits 1 when a client is missing at the end that was named here or in RIVERLOG_REQUIRE; others are told and let be."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tools.clients import CLIENTS, install, required


def main(names: Sequence[str]) -> int:
    unknown = set(names) - CLIENTS.keys()
    if unknown:
        print(f"no client is called {', '.join(sorted(unknown))}; there are {', '.join(CLIENTS)}", file=sys.stderr)
        return 2
    must = {*names, *required()}
    failed = False
    for name in names or CLIENTS:
        reason = install(name)
        print(f"{name}: {'there' if reason is None else 'missing: ' + reason}", flush=True)
        failed |= reason is not None and name in must
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
