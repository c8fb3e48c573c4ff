"""Room on the disk for bytes that are not written yet: fallocate(2) that leaves the file's size alone, which Python's `os`
does not have.

Invariant: a file's size is never changed here, so what reads it by its size (recovery, verify, copies) sees nothing of
what is reserved. Where the system has no such call nothing is reserved. Not here: giving back (truncate).
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from typing import Final, cast

KEEP_SIZE: Final = 1  # FALLOC_FL_KEEP_SIZE, linux/falloc.h
NOT_HERE: Final = (errno.EOPNOTSUPP, errno.ENOSYS)  # the file system, or the kernel, cannot


def find_fallocate() -> Callable[[int, int, int, int], int] | None:
    """A function of (descriptor, mode, position, count) that gives 0, or -1 and errno. None: there is none."""
    if not sys.platform.startswith("linux"):
        return None
    found = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None)
    if found is None:
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    found.restype = ctypes.c_int
    return cast("Callable[[int, int, int, int], int]", found)


_fallocate: Final = find_fallocate()


def reserve(descriptor: int, size: int) -> bool:
    """Whether room for the first `size` bytes was reserved; False where the system cannot. Raises OSError (ENOSPC)."""
    if _fallocate is None or size <= 0:
        return False
    if _fallocate(descriptor, KEEP_SIZE, 0, size) == 0:
        return True
    number = ctypes.get_errno()
    if number in NOT_HERE:
        return False
    raise OSError(number, os.strerror(number))
