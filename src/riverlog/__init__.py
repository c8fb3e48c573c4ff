"""riverlog: one append-only log with many faces.

Importing this package loads no engine and no client: the names below are fetched when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from riverlog.library import Broker

__version__ = "0.1.0"
__all__ = ["Broker", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Broker":
        from riverlog.library import Broker

        return Broker
    raise AttributeError(f"module 'riverlog' has no attribute {name!r}")
