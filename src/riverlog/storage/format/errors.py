"""The one error of the decoders of this package. It knows where in the bytes, not in which file."""

from __future__ import annotations

from riverlog.base.errors import Corruption


class FormatError(ValueError):
    """Bytes that are not of the format. `position` counts from the start of what was decoded."""

    def __init__(self, position: int, what: str) -> None:
        super().__init__(f"{what} at position {position}")
        self.position = position
        self.what = what

    def at(self, path: str) -> Corruption:
        """The same, as the error that names the file."""
        return Corruption(path, self.position, self.what)
