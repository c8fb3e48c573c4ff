"""Files as an argument. `RealFiles` is the operating system's; those of `testing/fakes.py` forget what was not synced.

Invariant: nothing here retries or hides an error; a failed sync is told to the caller, who must not believe the page
cache after it. A name (a created, renamed or removed file) is durable once its directory was synced, content once its
file was. Not here: what is in the files (`storage/format`).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import sys
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

from riverlog.env.page_cache import cachestat_probe, find_syncfs, mincore_probe
from riverlog.env.reserving import reserve

Buffer: TypeAlias = bytes | bytearray | memoryview

descriptors_kept_free: Final = 64  # for sockets, the catalog and what libraries open


class File(Protocol):
    """An open file. `descriptor` is -1 where the operating system knows nothing of it: no sendfile then."""

    descriptor: int

    def write_at(self, buffer: Buffer, position: int) -> int:
        """How many bytes were written, perhaps fewer than asked for. Raises OSError."""
        ...

    def write_parts_at(self, parts: Sequence[Buffer], position: int) -> int: ...

    def read_at(self, count: int, position: int) -> bytes:
        """At most `count` bytes; fewer only at the end of the file."""
        ...

    def read_into(self, buffer: bytearray | memoryview, position: int) -> int:
        """Fills the buffer; gives how many bytes were read, fewer than it holds only at the end of the file."""
        ...

    def size(self) -> int: ...

    def truncate(self, size: int) -> None: ...

    def sync(self) -> None:
        """The content, and the size, survive a loss of power when this returns."""
        ...

    def resident(self, position: int, count: int) -> bool:
        """Whether reading these bytes needs no disk."""
        ...

    def advise_willneed(self, position: int, count: int) -> None:
        """They will be read soon: the disk may begin with it. To ask can take as long as a read: not on the loop."""
        ...

    def advise_random(self) -> None:
        """Reads say all that they want: nothing more is read ahead, which with a large read-ahead of the system fills the
        disk's queue before everything that has to be synced."""
        ...

    def advise_dontneed(self, position: int, count: int) -> None:
        """Nobody reads them soon: what of their pages is written may leave memory. It costs no disk."""
        ...

    def allocate(self, size: int) -> None:
        """Reserves room on the disk for the first `size` bytes, where the system can; the file's size stays what it was.
        `truncate` gives back what lies behind its end. To reserve can take milliseconds: not on the loop."""
        ...

    def close(self) -> None: ...


class Volume(NamedTuple):
    """The file system that a path is on."""

    bytes: int
    usable_bytes: int  # that we may still write


class Locked(Exception):
    """Somebody else holds the lock; `content` is what they wrote into its file."""

    def __init__(self, path: str, content: bytes) -> None:
        super().__init__(f"{path} is locked by another process")
        self.content = content


class FileLock(Protocol):
    def write(self, content: bytes) -> None:
        """Replaces what the next one who is refused will read."""
        ...

    def release(self) -> None: ...


class Files(Protocol):
    """Paths are strings. Methods raise OSError as the operating system does."""

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> File: ...

    def read(self, path: str) -> bytes: ...

    def list(self, path: str) -> Sequence[str]:
        """The names in a directory, sorted."""
        ...

    def exists(self, path: str) -> bool: ...

    def is_directory(self, path: str) -> bool: ...

    def size(self, path: str) -> int: ...

    def make_directory(self, path: str) -> None:
        """With its parents; it may be there already."""
        ...

    def rename(self, old: str, new: str) -> None: ...

    def link(self, old: str, new: str) -> None:
        """The file has both names from now on; `new` must not be there."""
        ...

    def remove(self, path: str) -> None: ...

    def remove_tree(self, path: str) -> None: ...

    def sync_directory(self, path: str) -> None: ...

    def sync_all(self, path: str) -> bool:
        """The content and the names of all files of the filesystem that `path` is in survive a loss of power when this
        returns True. False: the system has no such call, and nothing was done. Raises OSError as a sync does."""
        ...

    def lock(self, path: str) -> FileLock:
        """Raises Locked. The lock ends with the process."""
        ...

    def volume(self, path: str) -> Volume: ...

    def open_files_max(self) -> int:
        """How many descriptors the caller may hold; asks for as many as the system grants."""
        ...


def write_file(files: Files, path: str, content: Buffer, *, sync: bool = True) -> None:
    """Makes or overwrites a file that nobody reads yet."""
    file = files.open(path, create=True)
    try:
        file.truncate(0)
        write_whole(file, content, 0)
        if sync:
            file.sync()
    finally:
        file.close()


def write_whole(file: File, content: Buffer, position: int) -> None:
    """All of it, or OSError (ENOSPC where the system only says that it wrote nothing)."""
    view = memoryview(content)
    while len(view):
        written = file.write_at(view, position)
        if written <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = view[written:]
        position += written


def replace_file(files: Files, path: str, content: Buffer) -> None:
    """After this a reader, also after a loss of power, finds the new content; until then the old or the new, whole."""
    fresh = path + ".tmp"
    write_file(files, fresh, content)
    files.rename(fresh, path)
    files.sync_directory(os.path.dirname(path))


class RealFile:
    """A descriptor of the operating system. A second `close` does nothing: the number may be somebody else's then."""

    __slots__ = ("_probe", "descriptor")

    def __init__(self, descriptor: int, probe: Callable[[int, int, int], bool]) -> None:
        self.descriptor = descriptor
        self._probe = probe

    def write_at(self, buffer: Buffer, position: int) -> int:
        return os.pwrite(self.descriptor, buffer, position)

    def write_parts_at(self, parts: Sequence[Buffer], position: int) -> int:
        return os.pwritev(self.descriptor, parts, position)

    def read_at(self, count: int, position: int) -> bytes:
        found = os.pread(self.descriptor, count, position)
        if len(found) == count or not found:
            return found
        parts = [found]
        missing = count - len(found)
        position += len(found)
        while missing and (found := os.pread(self.descriptor, missing, position)):
            parts.append(found)
            missing -= len(found)
            position += len(found)
        return b"".join(parts)

    def read_into(self, buffer: bytearray | memoryview, position: int) -> int:
        count = os.preadv(self.descriptor, (buffer,), position)
        if count == len(buffer) or not count:
            return count
        view = memoryview(buffer)
        while count < len(view) and (more := os.preadv(self.descriptor, (view[count:],), position + count)):
            count += more
        return count

    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def truncate(self, size: int) -> None:
        os.ftruncate(self.descriptor, size)

    if sys.platform == "darwin":

        def sync(self) -> None:
            fcntl.fcntl(self.descriptor, fcntl.F_FULLFSYNC)

    else:

        def sync(self) -> None:
            os.fdatasync(self.descriptor)

    def resident(self, position: int, count: int) -> bool:
        return self._probe(self.descriptor, position, count)

    if hasattr(os, "posix_fadvise"):

        def advise_willneed(self, position: int, count: int) -> None:
            os.posix_fadvise(self.descriptor, position, count, os.POSIX_FADV_WILLNEED)

        def advise_random(self) -> None:
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_RANDOM)

        def advise_dontneed(self, position: int, count: int) -> None:
            os.posix_fadvise(self.descriptor, position, count, os.POSIX_FADV_DONTNEED)

    else:

        def advise_willneed(self, position: int, count: int) -> None: ...

        def advise_random(self) -> None: ...

        def advise_dontneed(self, position: int, count: int) -> None: ...

    def allocate(self, size: int) -> None:
        reserve(self.descriptor, size)

    def close(self) -> None:
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)


class RealFileLock:
    """flock(2) on an open file, which ends with the process also when it is killed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, content: bytes) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content, 0)

    def release(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.ftruncate(descriptor, 0)
            os.close(descriptor)


class RealFiles:
    """The operating system's files. Linux is tested; macOS syncs by F_FULLFSYNC and is not tested."""

    def __init__(self) -> None:
        self._probe = cachestat_probe() or mincore_probe()
        self._syncfs = find_syncfs()

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> File:
        flags = os.O_CLOEXEC | (os.O_RDWR if writable else os.O_RDONLY) | (os.O_CREAT if create else 0)
        return RealFile(os.open(path, flags, 0o644), self._probe)

    def read(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    def list(self, path: str) -> Sequence[str]:
        return sorted(os.listdir(path))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(path)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def make_directory(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def link(self, old: str, new: str) -> None:
        os.link(old, new)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def remove_tree(self, path: str) -> None:
        for name in os.listdir(path):
            inner = os.path.join(path, name)
            if os.path.isdir(inner) and not os.path.islink(inner):
                self.remove_tree(inner)
            else:
                os.unlink(inner)
        os.rmdir(path)

    def sync_directory(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            if sys.platform == "darwin":
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            else:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_all(self, path: str) -> bool:
        if self._syncfs is None:
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if self._syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), path)
        finally:
            os.close(descriptor)
        return True

    def lock(self, path: str) -> FileLock:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            content = os.pread(descriptor, 64 * 1024, 0)
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise Locked(path, content) from None
            raise
        return RealFileLock(descriptor)

    def volume(self, path: str) -> Volume:
        found = os.statvfs(path)
        return Volume(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def open_files_max(self) -> int:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < hard:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
                soft = hard
            except (OSError, ValueError):
                pass  # macOS has a lower limit of its own; the soft one holds
        return max(16, soft // 2 - descriptors_kept_free)
