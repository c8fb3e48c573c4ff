"""What a disk has of files and directories, beside what a program sees: the state that `fakes.py` crashes.

Invariants: a page that was written since the last sync remembers what the disk has of it, so a sync costs nothing but
forgetting, and a crash touches dirty pages alone; a name is on the disk once its directory was synced. After a sync that
failed its pages count as clean and are not on the disk, as on Linux: the next sync succeeds without them.
Not here: paths, descriptors, faults (`fakes.py`).
"""

from __future__ import annotations

from typing import Final, TypeAlias

from riverlog.env.entropy import Entropy

page_bytes: Final = 4096
sector_bytes: Final = 512  # written whole or not at all


class Inode:
    """A file's content, now and on the disk."""

    __slots__ = ("_dirty", "_lost", "content", "disk_size")

    def __init__(self) -> None:
        self.content = bytearray()
        self.disk_size = 0
        self._dirty: dict[int, bytes] = {}  # page -> what the disk has of it
        self._lost: dict[int, bytes] = {}  # likewise, of pages that a failed sync has marked clean

    @property
    def is_clean(self) -> bool:
        return not self._dirty and not self._lost and self.disk_size == len(self.content)

    def write(self, data: bytes, position: int) -> None:
        content = self.content
        end = position + len(data)
        self._touch(min(position, len(content)), end)
        if position > len(content):
            content.extend(bytes(position - len(content)))
        content[position:end] = data

    def truncate(self, size: int) -> None:
        content = self.content
        self._touch(min(size, len(content)), max(size, len(content)))
        if size < len(content):
            del content[size:]
        else:
            content.extend(bytes(size - len(content)))

    def sync(self) -> None:
        self._dirty.clear()
        self.disk_size = len(self.content)

    def fail_sync(self) -> None:
        """The dirty pages are marked clean; what was to be written stays in memory alone."""
        self._lost.update(self._dirty)
        self._dirty.clear()

    def evict(self) -> None:
        """Clean pages leave memory: those of a failed sync are read from the disk again, as it has them."""
        lost = self._lost
        self._lost = {}
        for page, old in lost.items():
            at = page * page_bytes
            end = min(at + page_bytes, len(self.content))
            if at < end:
                self.content[at:end] = old.ljust(page_bytes, b"\0")[: end - at]

    def lose(self) -> None:
        """The power is gone: what was not synced is too."""
        self._settle({**self._lost, **self._dirty}, self.disk_size)

    def tear(self, entropy: Entropy) -> None:
        """The power is gone while the disk was writing: some pages, parts of pages, and any size between the two."""
        if self.is_clean:
            return
        size = self.disk_size
        if size != len(self.content):
            low, high = sorted((size, len(self.content)))
            size = (size, len(self.content), low + entropy.below(high - low + 1))[entropy.below(3)]
        pages: dict[int, bytes] = {}
        whole = not entropy.below(4)
        for page, old in sorted({**self._lost, **self._dirty}.items()):
            choice = 1 if whole else entropy.below(3)
            if choice == 0:
                pages[page] = old
            elif choice == 2:
                pages[page] = self._mixed(page, old, entropy)
        self._settle(pages, size)

    def flip(self, position: int, bit: int) -> None:
        """A bit of the disk turns over."""
        self.content[position] ^= 1 << bit

    def _touch(self, start: int, end: int) -> None:
        """Bytes in [start, end) are about to change."""
        dirty, lost, content = self._dirty, self._lost, self.content
        for page in range(start // page_bytes, (max(end, start + 1) - 1) // page_bytes + 1):
            if page not in dirty:
                at = page * page_bytes
                dirty[page] = lost.pop(page) if page in lost else bytes(content[at : at + page_bytes])

    def _mixed(self, page: int, old: bytes, entropy: Entropy) -> bytes:
        """Some sectors of the new page, the others of the old."""
        at = page * page_bytes
        new = bytes(self.content[at : at + page_bytes]).ljust(page_bytes, b"\0")
        old = old.ljust(page_bytes, b"\0")
        sectors = page_bytes // sector_bytes
        chosen = entropy.below(1 << sectors)
        if entropy.below(2):
            chosen = (1 << entropy.below(sectors + 1)) - 1  # the first ones: a write that was cut off
        parts = [
            (new if chosen >> sector & 1 else old)[sector * sector_bytes : (sector + 1) * sector_bytes]
            for sector in range(sectors)
        ]
        return b"".join(parts)

    def _settle(self, pages: dict[int, bytes], size: int) -> None:
        """These pages and that size are what there is now, here and on the disk."""
        content = self.content
        if len(content) < size:
            content.extend(bytes(size - len(content)))
        for page, old in pages.items():
            at = page * page_bytes
            end = min(at + page_bytes, len(content))
            if at < end:
                content[at:end] = old.ljust(page_bytes, b"\0")[: end - at]
        del content[size:]
        self._dirty.clear()
        self._lost.clear()
        self.disk_size = size


class Directory:
    """Names, now and on the disk."""

    __slots__ = ("_disk", "entries")

    def __init__(self) -> None:
        self.entries: dict[str, Node] = {}
        self._disk: dict[str, Node | None] = {}  # of names that were changed since the last sync

    def put(self, name: str, node: Node) -> None:
        self._disk.setdefault(name, self.entries.get(name))
        self.entries[name] = node

    def drop(self, name: str) -> None:
        self._disk.setdefault(name, self.entries[name])
        del self.entries[name]

    def sync(self) -> None:
        self._disk.clear()

    def sync_tree(self) -> None:
        self.sync()
        for node in self.entries.values():
            if isinstance(node, Directory):
                node.sync_tree()
            else:
                node.sync()

    def drop_tree(self) -> None:
        """Removes what is inside; without a sync a part of it may come back."""
        for name, node in list(self.entries.items()):
            if isinstance(node, Directory):
                node.drop_tree()
            self.drop(name)

    def size(self) -> int:
        return sum(
            node.size() if isinstance(node, Directory) else len(node.content) for node in self.entries.values()
        )

    def lose(self) -> None:
        for name, node in self._disk.items():
            if node is None:
                self.entries.pop(name, None)
            else:
                self.entries[name] = node
        self._disk.clear()
        for node in self.entries.values():
            node.lose()

    def tear(self, entropy: Entropy) -> None:
        """Each name that was changed is as it is now or as it was; in one of four cases all are as they are now."""
        whole = not entropy.below(4)
        for name, node in sorted(self._disk.items()):
            if whole or entropy.below(2):
                continue
            if node is None:
                self.entries.pop(name, None)
            else:
                self.entries[name] = node
        self._disk.clear()
        for _, node in sorted(self.entries.items()):
            node.tear(entropy)


Node: TypeAlias = Inode | Directory
