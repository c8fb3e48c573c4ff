"""Files that can crash. They live in memory and keep, beside what a program sees, what a loss of power would leave.

Invariant: `crash` leaves exactly what was synced: the content of a file as of its last sync, a name as of the last sync of
its directory. They pass the same tests as the real ones (`tests/unit/env/test_files.py`). Every operation is noted in
order, can be made to fail, and a sync can be held back. Not here: a disk that lies about its syncs.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any, NamedTuple, cast

from riverlog.env.entropy import Entropy
from riverlog.env.files import Buffer, File, FileLock, Files, Locked, Volume
from riverlog.testing.inodes import Directory, Inode, Node


class Unsynced(Enum):
    """What a crash does with what was not synced."""

    LOST = "lost"  # the power is gone
    KEPT = "kept"  # the process is gone, the page cache is not
    TORN = "torn"  # anything between: parts of writes, some names, zeros where a length came before its bytes


class Operation(NamedTuple):
    """`size` is of bytes; for a rename `path` is the new name."""

    kind: str  # write, sync, truncate, create, rename, remove, sync-directory, sync-all
    path: str
    position: int = 0
    size: int = 0


class Fault(NamedTuple):
    """The next `times` operations of that kind on a path that contains `path` fail."""

    kind: str
    path: str
    error: int
    times: int


class CrashableFile:
    """Open until it is closed or the world crashes; then every use is EBADF."""

    def __init__(self, files: CrashableFiles, path: str, inode: Inode, writable: bool) -> None:
        self.descriptor = -1
        self._files = files
        self._path = path
        self._inode = inode
        self._writable = writable
        self._generation = files.generation
        self._open = True

    def write_at(self, buffer: Buffer, position: int) -> int:
        return self.write_parts_at((buffer,), position)

    def write_parts_at(self, parts: Sequence[Buffer], position: int) -> int:
        files = self._files
        with files.lock_all:
            self._check(writable=True)
            files.operate("write", self._path, position, sum(len(part) for part in parts))
            data = b"".join(bytes(part) for part in parts)
            content = self._inode.content
            growth = max(0, position + len(data) - len(content))
            if files.room_bytes is not None and growth > files.room_bytes:
                data = data[: max(0, len(data) - growth + files.room_bytes)]
                growth = max(0, position + len(data) - len(content))
                if not data:
                    raise _error(errno.ENOSPC, self._path)
            if files.room_bytes is not None:
                files.room_bytes -= growth
            self._inode.write(data, position)
            return len(data)

    def read_at(self, count: int, position: int) -> bytes:
        with self._files.lock_all:
            self._check()
            self._files.fail("read", self._path)
            return bytes(self._inode.content[position : position + count])

    def read_into(self, buffer: bytearray | memoryview, position: int) -> int:
        found = self.read_at(len(buffer), position)
        buffer[: len(found)] = found
        return len(found)

    def size(self) -> int:
        with self._files.lock_all:
            self._check()
            return len(self._inode.content)

    def truncate(self, size: int) -> None:
        files = self._files
        with files.lock_all:
            self._check(writable=True)
            files.operate("truncate", self._path, size)
            content = self._inode.content
            if files.room_bytes is not None:
                files.room_bytes += max(0, len(content) - size)
            self._inode.truncate(size)
            files.reserved.pop(self._path, None)

    def allocate(self, size: int) -> None:
        files = self._files
        with files.lock_all:
            self._check(writable=True)
            files.fail("allocate", self._path)
            if files.room_bytes is not None and size - len(self._inode.content) > files.room_bytes:
                raise _error(errno.ENOSPC, self._path)
            files.reserved[self._path] = size

    def sync(self) -> None:
        files = self._files
        if threading.current_thread() is not threading.main_thread():
            files.gate.wait()
        with files.lock_all:
            self._check()
            try:
                files.operate("sync", self._path, 0, len(self._inode.content))
            except OSError:
                self._inode.fail_sync()
                raise
            self._inode.sync()

    def resident(self, position: int, count: int) -> bool:
        return self._files.resident

    def advise_willneed(self, position: int, count: int) -> None:
        self._advise("willneed", position, count)

    def advise_random(self) -> None:
        self._advise("random", 0, 0)

    def advise_dontneed(self, position: int, count: int) -> None:
        self._advise("dontneed", position, count)

    def _advise(self, kind: str, position: int, count: int) -> None:
        with self._files.lock_all:
            self._check()
            self._files.advice.append(Operation(kind, self._path, position, count))
            if kind == "dontneed":
                self._inode.evict()

    def close(self) -> None:
        self._open = False

    def _check(self, *, writable: bool = False) -> None:
        if not self._open or self._generation != self._files.generation or (writable and not self._writable):
            raise _error(errno.EBADF, self._path)


class CrashableLock:
    def __init__(self, files: CrashableFiles, path: str) -> None:
        self._files = files
        self._path = path

    def write(self, content: bytes) -> None:
        self._files.locks[self._path] = content

    def release(self) -> None:
        self._files.locks.pop(self._path, None)


class _Session:
    """The files as one process uses them: dead after the next crash, so that a thread of a killed process, which in a
    test goes on for a moment, changes nothing any more."""

    def __init__(self, files: CrashableFiles) -> None:
        self._files = files
        self._generation = files.generation

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._files, name)

        def call(*arguments: Any, **more: Any) -> Any:
            with self._files.lock_all:
                if self._generation != self._files.generation:
                    raise _error(errno.EBADF, str(arguments[0] if arguments else name))
                return function(*arguments, **more)

        return call


class CrashableFiles:
    """The files of one machine. Threads may use them."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.faults: list[Fault] = []
        self.advice: list[Operation] = []  # kinds willneed, random and dontneed, in order
        self.reserved: dict[str, int] = {}  # path -> bytes that were allocated and not given back
        self.room_bytes: int | None = None  # what the disk has left; None: enough
        self.resident = True  # whether the page cache is said to have everything
        self.generation = 0  # crashes so far
        self.locks: dict[str, bytes] = {}
        self.lock_all = threading.RLock()
        self.gate = threading.Event()
        self.gate.set()
        self._root = Directory()

    # What tests do

    def crash(self, unsynced: Unsynced = Unsynced.LOST, entropy: Entropy | None = None) -> None:
        """The process is gone with its locks and open files; what is left is as `unsynced` says (TORN needs entropy)."""
        assert unsynced is not Unsynced.TORN or entropy is not None
        with self.lock_all:
            self.generation += 1
            self.locks.clear()
            self.faults.clear()
            self.gate.set()
            if unsynced is Unsynced.LOST:
                self._root.lose()
            elif unsynced is Unsynced.TORN:
                assert entropy is not None
                self._root.tear(entropy)

    def inject(self, kind: str, path: str, error: int, times: int = 1) -> None:
        """The next `times` operations of that kind (an `Operation`'s, or `read`) on a path that contains `path` fail."""
        self.faults.append(Fault(kind, path, error, times))

    @contextmanager
    def held_syncs(self) -> Iterator[None]:
        """No sync of a file on another thread ends inside of this."""
        self.gate.clear()
        try:
            yield
        finally:
            self.gate.set()

    def session(self) -> Files:
        """What a process that may be killed is to be given."""
        return cast(Files, _Session(self))

    def dump(self, directory: str) -> dict[str, bytes]:
        """Every file under a directory by its path below it."""
        found: dict[str, bytes] = {}
        for name in self.list(directory):
            path = f"{directory}/{name}"
            if self.is_directory(path):
                found.update({f"{name}/{inner}": content for inner, content in self.dump(path).items()})
            else:
                found[name] = self.read(path)
        return found

    # Files

    def open(self, path: str, *, create: bool = False, writable: bool = True) -> File:
        with self.lock_all:
            parent, name = self._parent(path)
            node = parent.entries.get(name)
            if node is None:
                if not create:
                    raise _error(errno.ENOENT, path)
                self.operate("create", path)
                node = Inode()
                parent.put(name, node)
            if isinstance(node, Directory):
                raise _error(errno.EISDIR, path)
            return CrashableFile(self, path, node, writable)

    def read(self, path: str) -> bytes:
        with self.lock_all:
            self.fail("read", path)
            node = self._node(path)
            if isinstance(node, Directory):
                raise _error(errno.EISDIR, path)
            return bytes(node.content)

    def list(self, path: str) -> Sequence[str]:
        with self.lock_all:
            return sorted(self._directory(path).entries)

    def exists(self, path: str) -> bool:
        with self.lock_all:
            try:
                self._node(path)
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def is_directory(self, path: str) -> bool:
        return self.exists(path) and isinstance(self._node(path), Directory)

    def size(self, path: str) -> int:
        with self.lock_all:
            node = self._node(path)
            return len(node.content) if isinstance(node, Inode) else 0

    def make_directory(self, path: str) -> None:
        with self.lock_all:
            at = self._root
            for part in _parts(path):
                node = at.entries.get(part)
                if node is None:
                    self.fail("create", path)
                    node = Directory()
                    at.put(part, node)
                if not isinstance(node, Directory):
                    raise _error(errno.ENOTDIR, path)
                at = node

    def rename(self, old: str, new: str) -> None:
        with self.lock_all:
            node = self._node(old)
            self.operate("rename", new)
            target, name = self._parent(new)
            source, old_name = self._parent(old)
            source.drop(old_name)
            target.put(name, node)

    def link(self, old: str, new: str) -> None:
        with self.lock_all:
            node = self._node(old)
            target, name = self._parent(new)
            if name in target.entries:
                raise _error(errno.EEXIST, new)
            self.operate("create", new)
            target.put(name, node)

    def remove(self, path: str) -> None:
        with self.lock_all:
            if isinstance(node := self._node(path), Directory):
                raise _error(errno.EISDIR, path)
            self.operate("remove", path)
            if self.room_bytes is not None:
                self.room_bytes += len(node.content)
            parent, name = self._parent(path)
            parent.drop(name)

    def remove_tree(self, path: str) -> None:
        with self.lock_all:
            directory = self._directory(path)
            self.operate("remove", path)
            if self.room_bytes is not None:
                self.room_bytes += directory.size()
            directory.drop_tree()
            parent, name = self._parent(path)
            parent.drop(name)

    def sync_directory(self, path: str) -> None:
        with self.lock_all:
            directory = self._directory(path)
            self.operate("sync-directory", path)
            directory.sync()

    def sync_all(self, path: str) -> bool:
        if threading.current_thread() is not threading.main_thread():
            self.gate.wait()
        with self.lock_all:
            self._node(path)
            self.operate("sync-all", path)
            self._root.sync_tree()
        return True

    def lock(self, path: str) -> FileLock:
        with self.lock_all:
            if (content := self.locks.get(path)) is not None:
                raise Locked(path, content)
            self.locks[path] = b""
            return CrashableLock(self, path)

    def volume(self, path: str) -> Volume:
        return Volume(2**40, 2**40 if self.room_bytes is None else self.room_bytes)

    def open_files_max(self) -> int:
        return 1000

    # Inside

    def operate(self, kind: str, path: str, position: int = 0, size: int = 0) -> None:
        """Fails where it was told to, else notes the operation."""
        self.fail(kind, path)
        self.operations.append(Operation(kind, path, position, size))

    def fail(self, kind: str, path: str) -> None:
        for at, fault in enumerate(self.faults):
            if fault.kind == kind and fault.path in path:
                if fault.times <= 1:
                    del self.faults[at]
                else:
                    self.faults[at] = fault._replace(times=fault.times - 1)
                raise _error(fault.error, path)

    def _node(self, path: str) -> Node:
        node: Node = self._root
        for part in _parts(path):
            if not isinstance(node, Directory):
                raise _error(errno.ENOTDIR, path)
            if (inner := node.entries.get(part)) is None:
                raise _error(errno.ENOENT, path)
            node = inner
        return node

    def _directory(self, path: str) -> Directory:
        if not isinstance(node := self._node(path), Directory):
            raise _error(errno.ENOTDIR, path)
        return node

    def _parent(self, path: str) -> tuple[Directory, str]:
        head, _, name = path.rpartition("/")
        return self._directory(head), name


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)  # Python makes FileNotFoundError and the like of it
