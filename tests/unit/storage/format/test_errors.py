"""The decoders' error becomes the one that names the file."""

from riverlog.base.errors import Corruption, ErrorKind
from riverlog.storage.format.errors import FormatError


def test_a_format_error_becomes_a_corruption_with_the_path() -> None:
    error = FormatError(12, "no batch")
    corruption = error.at("topics/a-0/x.log")
    assert isinstance(corruption, Corruption)
    assert corruption.kind is ErrorKind.STORAGE
    assert str(corruption) == "topics/a-0/x.log: no batch at position 12"
    assert isinstance(error, ValueError)
