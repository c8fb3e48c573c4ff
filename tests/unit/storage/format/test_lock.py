"""Who holds a directory."""

import pytest

from riverlog.storage.format import lock
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.lock import LockContent


def test_pid_and_addresses_come_back() -> None:
    content = LockContent(4711, {"kafka": "127.0.0.1:9092", "http": "127.0.0.1:9080"})
    assert lock.decode(lock.encode(content)) == content
    assert lock.encode(LockContent(1, {})) == b'{"pid": 1, "addresses": {}}\n'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        b'{"pid": 0, "addresses": {}}',
        b'{"pid": true, "addresses": {}}',
        b'{"pid": 1}',
        b'{"pid": 1, "addresses": []}',
        b'{"pid": 1, "addresses": {"kafka": 1}}',
        b'{"pid": 1, "addr',
    ],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        lock.decode(data)
