"""The compiled kernels beside memory that must not be read: buffers end, and begin, at a page without permission.

One byte read outside kills the process, so it runs in one of its own: this file is also the program.
"""

from __future__ import annotations

import ctypes
import mmap
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROUNDS = 2000


def test_nothing_outside_is_read() -> None:
    pytest.importorskip("riverlog.kernels.compiled")
    if not sys.platform.startswith("linux"):
        pytest.skip("guard pages are made with Linux's mprotect")
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{ROUNDS} rounds\n"), done


def guarded() -> tuple[memoryview, object]:
    """A page of memory between two that cannot be read, and what keeps it alive."""
    memory = mmap.mmap(-1, 3 * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for page in (0, 2):
        if libc.mprotect(ctypes.c_void_p(address + page * mmap.PAGESIZE), mmap.PAGESIZE, 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    return memoryview(memory)[mmap.PAGESIZE : 2 * mmap.PAGESIZE], memory


def placed(page: memoryview, data: bytes) -> Iterator[memoryview]:
    """`data` at the page's end, then at its start."""
    for start in (len(page) - len(data), 0):
        view = page[start : start + len(data)]
        view[:] = data
        yield view


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from test_compaction_kernels import look_beside_guards
    from test_records_kernels import mutated, outcome, some_records

    from riverlog.kernels import compiled, reference

    page, _memory = guarded()
    chance = random.Random(1)
    for number in range(ROUNDS):
        data, count = some_records(chance)
        data = (data if number % 2 else mutated(chance, data))[: len(page)]
        data = data[: chance.randrange(len(data) + 1)] if number % 5 == 0 else data
        batch = (b"\0" * 11 + bytes([49]) + b"\0" * 4 + b"\2" + data)[: len(page)]
        for said in (count, 2**31 - 1):
            expected = outcome(reference.record_spans, data, said)
            for view in placed(page, data):
                assert outcome(compiled.record_spans, view, said) == expected
                outcome(compiled.first_at_or_after, view, said, 0, 2**62)
                outcome(compiled.max_timestamp, view, said, 0)
                outcome(compiled.first_null_key, view, said)
                outcome(compiled.read_varlongs, view, said)
        for view in placed(page, batch):
            compiled.walk_batches(view)
        assert [compiled.murmur2(view) for view in placed(page, data)] == [reference.murmur2(data)] * 2
    look_beside_guards(page, placed, ROUNDS // 10)
    print(f"{ROUNDS} rounds")


if __name__ == "__main__":
    main()
