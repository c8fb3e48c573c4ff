"""What only the kernel knows of the page cache, asked by calls that Python's `os` does not have.

Invariant: what a kernel does not have is found out once, when the function is made, and answered by None or by the careful
answer (not resident). Not here: advice (`files.py`, posix_fadvise), who asks.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Callable
from typing import Final, cast

PAGE_BYTES: Final = mmap.PAGESIZE
CACHESTAT_NUMBER: Final = 451  # the same on x86_64 and aarch64; Linux 6.5 and later


class CacheStatRange(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class CacheStat(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recently_evicted")
    )


def cachestat_probe() -> Callable[[int, int, int], bool] | None:
    """A function of (descriptor, position, count), or None where the kernel has no cachestat(2)."""
    if not sys.platform.startswith("linux") or os.uname().machine not in ("x86_64", "aarch64"):
        return None
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.argtypes = (ctypes.c_long, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint)
    syscall.restype = ctypes.c_long
    byref = ctypes.byref

    def probe(descriptor: int, position: int, count: int) -> bool:
        first = position // PAGE_BYTES
        pages = (position + count - 1) // PAGE_BYTES - first + 1
        window, answer = CacheStatRange(first * PAGE_BYTES, pages * PAGE_BYTES), CacheStat()
        if syscall(CACHESTAT_NUMBER, descriptor, byref(window), byref(answer), 0) != 0:
            return False
        return bool(answer.cached >= pages)

    window, answer = CacheStatRange(0, PAGE_BYTES), CacheStat()
    with open(sys.executable, "rb") as known:
        works = syscall(CACHESTAT_NUMBER, known.fileno(), byref(window), byref(answer), 0) == 0
    return probe if works else None


def mincore_probe() -> Callable[[int, int, int], bool]:
    """The same by mapping the bytes and asking mincore(2); gives False where that cannot be had."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "mincore"):
        return lambda descriptor, position, count: False
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)

    def probe(descriptor: int, position: int, count: int) -> bool:
        start = position - position % mmap.ALLOCATIONGRANULARITY
        length = position + count - start
        try:
            access = mmap.PROT_READ | mmap.PROT_WRITE
            mapped = mmap.mmap(descriptor, length, prot=access, flags=mmap.MAP_PRIVATE, offset=start)
        except (OSError, ValueError):
            return False
        anchor = ctypes.c_char.from_buffer(mapped)
        try:
            pages = (ctypes.c_ubyte * -(-length // PAGE_BYTES))()
            if libc.mincore(ctypes.addressof(anchor), length, ctypes.addressof(pages)) != 0:
                return False
            return all(page & 1 for page in pages[(position - start) // PAGE_BYTES :])
        finally:
            del anchor
            mapped.close()

    return probe


def find_syncfs() -> Callable[[int], int] | None:
    """syncfs(2) of a descriptor, which tells of failed writes since Linux 5.8; None where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        return None
    libc.syncfs.argtypes = (ctypes.c_int,)
    libc.syncfs.restype = ctypes.c_int
    return cast(Callable[[int], int], libc.syncfs)
