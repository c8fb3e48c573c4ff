"""The real files and the crashable ones do the same, as far as nobody crashes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from riverlog.env import files as real
from riverlog.env.files import Files, Locked, RealFiles, replace_file, write_file, write_whole
from riverlog.testing.fakes import CrashableFiles


@pytest.fixture(params=["real", "crashable"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Files, str]:
    files: Files = RealFiles() if request.param == "real" else CrashableFiles()
    directory = str(tmp_path / "d")
    files.make_directory(directory)
    return files, directory


def test_bytes_are_where_they_were_written(world: tuple[Files, str]) -> None:
    files, directory = world
    file = files.open(f"{directory}/a", create=True)
    assert file.write_at(b"hello", 3) == 5
    assert file.write_parts_at([b"12", memoryview(b"x345")[1:]], 8) == 5
    assert file.size() == 13
    assert file.read_at(100, 0) == b"\0\0\0hello12345"
    assert file.read_at(5, 3) == b"hello"
    assert file.read_at(5, 50) == b""
    file.truncate(5)
    assert files.read(f"{directory}/a") == b"\0\0\0he"
    file.truncate(7)
    assert file.read_at(10, 0) == b"\0\0\0he\0\0"
    file.sync()
    assert files.size(f"{directory}/a") == 7
    file.close()
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write_at(b"x", 0)


def test_bytes_are_read_into_a_buffer(world: tuple[Files, str]) -> None:
    files, directory = world
    write_file(files, f"{directory}/a", b"0123456789")
    file = files.open(f"{directory}/a", writable=False)
    buffer = bytearray(b"....")
    assert file.read_into(buffer, 3) == 4
    assert bytes(buffer) == b"3456"
    assert file.read_into(memoryview(buffer)[1:], 8) == 2
    assert bytes(buffer) == b"3896"
    assert file.read_into(buffer, 10) == 0
    file.close()


def test_advice_changes_no_bytes(world: tuple[Files, str]) -> None:
    files, directory = world
    file = files.open(f"{directory}/a", create=True)
    file.write_at(b"x" * 10_000, 0)
    file.advise_dontneed(0, 10_000)  # also where nothing of it is on the disk
    file.sync()
    file.advise_dontneed(4096, 0)
    file.advise_willneed(0, 20_000)
    file.advise_random()
    assert file.read_at(20_000, 0) == b"x" * 10_000
    file.close()


def test_pages_that_nobody_needs_leave_memory_and_come_back(tmp_path: Path) -> None:
    files = RealFiles()
    file = files.open(str(tmp_path / "a"), create=True)
    file.write_at(b"x" * 1_000_000, 0)
    file.sync()
    assert file.resident(0, 1_000_000)
    file.advise_dontneed(0, 1_000_000)
    if file.resident(0, 1_000_000):
        pytest.skip("the kernel keeps the pages all the same (tmpfs does)")
    assert file.read_at(1_000_000, 0) == b"x" * 1_000_000
    assert file.resident(0, 1_000_000)
    file.close()


def test_a_whole_filesystem_is_synced(world: tuple[Files, str]) -> None:
    files, directory = world
    write_file(files, f"{directory}/a", b"one", sync=False)
    assert files.sync_all(directory) is (isinstance(files, CrashableFiles) or sys.platform.startswith("linux"))
    with pytest.raises(FileNotFoundError):
        files.sync_all(f"{directory}/nothing")


def test_a_sync_of_everything_survives_a_crash_and_can_fail() -> None:
    files = CrashableFiles()
    files.make_directory("d/sub")
    write_file(files, "d/sub/a", b"one", sync=False)
    files.inject("sync-all", "d", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        files.sync_all("d")
    assert files.sync_all("d")
    write_file(files, "d/sub/b", b"two", sync=False)
    files.crash()
    assert files.dump("d") == {"sub/a": b"one"}


def test_names(world: tuple[Files, str]) -> None:
    files, directory = world
    with pytest.raises(FileNotFoundError):
        files.open(f"{directory}/a")
    write_file(files, f"{directory}/a", b"one")
    files.make_directory(f"{directory}/sub/deep")
    files.make_directory(f"{directory}/sub/deep")
    write_file(files, f"{directory}/sub/deep/b", b"two", sync=False)
    assert list(files.list(directory)) == ["a", "sub"]
    assert files.exists(f"{directory}/sub/deep/b")
    assert not files.exists(f"{directory}/a/b")
    assert files.is_directory(f"{directory}/sub")
    assert not files.is_directory(f"{directory}/a")
    files.rename(f"{directory}/sub", f"{directory}/other")
    assert files.read(f"{directory}/other/deep/b") == b"two"
    files.sync_directory(directory)
    with pytest.raises(OSError, match=r"Is a directory|Operation not permitted"):
        files.remove(f"{directory}/other")
    files.remove_tree(f"{directory}/other")
    files.remove(f"{directory}/a")
    assert list(files.list(directory)) == []
    for call in (files.remove, files.read, files.list, files.size, files.remove_tree):
        with pytest.raises(FileNotFoundError):
            call(f"{directory}/a")


def test_a_file_is_replaced_whole(world: tuple[Files, str]) -> None:
    files, directory = world
    for content in (b"a long first content", b"short"):
        replace_file(files, f"{directory}/c", content)
        assert files.read(f"{directory}/c") == content
    assert list(files.list(directory)) == ["c"]


def test_read_only_files_are_not_written(world: tuple[Files, str]) -> None:
    files, directory = world
    write_file(files, f"{directory}/a", b"one")
    file = files.open(f"{directory}/a", writable=False)
    assert file.read_at(3, 0) == b"one"
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.write_at(b"x", 0)
    file.close()


def test_what_was_written_is_resident(world: tuple[Files, str]) -> None:
    files, directory = world
    file = files.open(f"{directory}/a", create=True)
    file.write_at(b"x" * 10_000, 0)
    assert file.resident(5000, 4000)
    file.close()


def test_a_lock_is_held_once(world: tuple[Files, str]) -> None:
    files, directory = world
    held = files.lock(f"{directory}/lock")
    held.write(b"it is me, at length")
    held.write(b"it is me")
    with pytest.raises(Locked) as caught:
        files.lock(f"{directory}/lock")
    assert caught.value.content == b"it is me"
    held.release()
    files.lock(f"{directory}/lock").release()


def test_there_are_descriptors(world: tuple[Files, str]) -> None:
    assert world[0].open_files_max() >= 16


def test_a_short_write_is_continued_and_an_empty_one_means_a_full_disk() -> None:
    class Stingy:
        def __init__(self, *counts: int) -> None:
            self.counts = list(counts)
            self.written = b""

        def write_at(self, buffer: memoryview, position: int) -> int:
            assert position == len(self.written)
            count = self.counts.pop(0)
            self.written += bytes(buffer[:count])
            return count

    stingy = Stingy(2, 1, 3)
    write_whole(stingy, b"abcdef", 0)  # type: ignore[arg-type]  # it needs no more of a File
    assert stingy.written == b"abcdef"
    with pytest.raises(OSError, match="No space") as caught:
        write_whole(Stingy(2, 0), b"abcdef", 0)  # type: ignore[arg-type]  # as above
    assert caught.value.errno == errno.ENOSPC


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    program = (
        "import sys\nfrom riverlog.env.files import RealFiles\n"
        f"held = RealFiles().lock({path!r})\nheld.write(b'child')\nprint('locked', flush=True)\nsys.stdin.read()\n"
    )
    source = str(Path(real.__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"locked\n"
        with pytest.raises(Locked) as caught:
            RealFiles().lock(path)
        assert caught.value.content == b"child"
        child.kill()
        child.wait()
        RealFiles().lock(path).release()


def test_room_is_reserved_and_given_back_and_the_size_stays(world: tuple[Files, str]) -> None:
    files, directory = world
    file = files.open(f"{directory}/a", create=True)
    file.write_at(b"hello", 0)
    file.allocate(1 << 20)
    assert (file.size(), files.size(f"{directory}/a")) == (5, 5)
    assert file.read_at(100, 0) == b"hello"
    file.write_at(b" there", 5)
    assert files.read(f"{directory}/a") == b"hello there"
    file.truncate(file.size())
    if isinstance(files, CrashableFiles):
        assert files.reserved == {}
    else:
        assert os.stat(f"{directory}/a").st_blocks * 512 < 1 << 20
    file.close()


def test_a_volume_has_a_size_and_room(world: tuple[Files, str]) -> None:
    files, directory = world
    volume = files.volume(directory)
    assert volume.bytes >= volume.usable_bytes > 0


def test_no_room_to_reserve_is_told() -> None:
    files = CrashableFiles()
    file = files.open("a", create=True)
    files.room_bytes = 100
    with pytest.raises(OSError, match="No space left"):
        file.allocate(101)
    file.allocate(100)
    assert files.reserved == {"a": 100}
