"""What a disk has of a file when the power goes, page by page and name by name."""

from __future__ import annotations

from riverlog.env.entropy import SeededEntropy
from riverlog.testing.inodes import Directory, Inode, page_bytes, sector_bytes


def synced(content: bytes) -> Inode:
    inode = Inode()
    inode.write(content, 0)
    inode.sync()
    return inode


def test_what_was_not_synced_is_lost_and_nothing_else() -> None:
    inode = synced(b"a" * 10_000)
    inode.write(b"b" * 100, 5_000)
    inode.write(b"c" * 100, 20_000)
    inode.truncate(30_000)
    inode.lose()
    assert inode.content == b"a" * 10_000
    inode.truncate(10)
    inode.lose()
    assert inode.content == b"a" * 10_000
    assert inode.is_clean


def test_pages_are_torn_out_of_order_and_within() -> None:
    pages: set[tuple[bool, bool]] = set()
    mixed = 0
    for seed in range(60):
        inode = synced(b"a" * (2 * page_bytes))
        inode.write(b"b" * (2 * page_bytes), 0)
        inode.tear(SeededEntropy(seed))
        content = bytes(inode.content)
        assert len(content) == 2 * page_bytes
        for at in range(0, len(content), sector_bytes):
            assert len(set(content[at : at + sector_bytes])) == 1, "a sector is whole"
        first, second = content[:page_bytes], content[page_bytes:]
        mixed += len(set(first)) == 2
        pages.add((set(first) == {ord("b")}, set(second) == {ord("b")}))
    assert pages == {(False, False), (False, True), (True, False), (True, True)}
    assert mixed


def test_the_size_may_come_before_its_bytes() -> None:
    found = set()
    for seed in range(40):
        inode = synced(b"a" * 100)
        inode.write(b"b" * 100, 100)
        inode.tear(SeededEntropy(seed))
        content = bytes(inode.content)
        assert content.startswith(b"a" * 100)
        found.add((len(content), content.endswith(b"\0")))
    assert {(200, True), (200, False), (100, False)} <= found


def test_a_failed_sync_marks_its_pages_clean_and_they_are_gone_in_the_end() -> None:
    inode = synced(b"a" * 100)
    inode.write(b"b" * 100, 100)
    inode.fail_sync()
    inode.sync()  # succeeds, and says nothing
    assert inode.content == b"a" * 100 + b"b" * 100
    inode.lose()
    assert inode.content == b"a" * 100 + bytes(100)

    inode.write(b"b" * 100, 100)
    inode.fail_sync()
    inode.evict()
    assert inode.content == b"a" * 100 + bytes(100)

    inode.fail_sync()
    inode.write(b"c", 150)  # dirty again: the whole page goes with the next sync
    inode.sync()
    inode.lose()
    assert inode.content == b"a" * 100 + bytes(50) + b"c" + bytes(49)


def test_names_come_and_go_with_their_directory() -> None:
    root, inner = Directory(), Directory()
    root.put("inner", inner)
    inner.put("a", synced(b"a"))
    root.sync_tree()
    inner.put("b", synced(b"b"))
    inner.drop("a")
    inner.lose()
    assert list(inner.entries) == ["a"]
    inner.drop_tree()
    root.drop("inner")
    assert root.size() == 0
    root.lose()
    assert root.entries["inner"] is inner
    assert list(inner.entries) == ["a"]
    assert root.size() == 1


def test_some_names_of_a_torn_directory_are_old() -> None:
    found = set()
    for seed in range(40):
        directory = Directory()
        directory.put("a", Inode())
        directory.sync()
        directory.drop("a")
        directory.put("b", Inode())
        directory.tear(SeededEntropy(seed))
        found.add("".join(sorted(directory.entries)))
    assert found == {"", "a", "b", "ab"}


def test_a_flipped_bit() -> None:
    inode = synced(b"a")
    inode.flip(0, 1)
    assert inode.content == b"c"
