"""What the crashable files forget, and what they do on demand. (That they are files like others: tests/unit/env.)"""

from __future__ import annotations

import errno
import threading

import pytest

from riverlog.env.entropy import SeededEntropy
from riverlog.env.files import Files, replace_file, write_file
from riverlog.testing.fakes import CrashableFiles, Unsynced


def made() -> CrashableFiles:
    files = CrashableFiles()
    files.make_directory("/d")
    files.sync_directory("/")
    return files


def test_content_is_as_of_the_last_sync_and_names_as_of_their_directorys() -> None:
    files = made()
    file = files.open("/d/a", create=True)
    file.write_at(b"synced", 0)
    file.sync()
    file.write_at(b"lost", 6)
    files.sync_directory("/d")
    write_file(files, "/d/nameless", b"synced content without a name")
    files.crash()
    assert files.dump("/d") == {"a": b"synced"}


def test_a_rename_and_a_removal_come_back_without_a_sync() -> None:
    files = made()
    for name in ("a", "b"):
        write_file(files, f"/d/{name}", name.encode())
    files.sync_directory("/d")
    files.rename("/d/a", "/d/c")
    files.remove("/d/b")
    files.crash()
    assert files.dump("/d") == {"a": b"a", "b": b"b"}
    files.rename("/d/a", "/d/b")
    files.sync_directory("/d")
    files.crash()
    assert files.dump("/d") == {"b": b"a"}


def test_a_replaced_file_is_whole_after_a_crash_at_any_step() -> None:
    for step in ("create", "write", "sync", "rename", "sync-directory"):
        for entropy in map(SeededEntropy, range(5)):
            files = made()
            replace_file(files, "/d/f", b"old")
            files.inject(step, "/d", errno.EIO)
            with pytest.raises(OSError, match="Input/output"):
                replace_file(files, "/d/f", b"newer")
            files.crash(Unsynced.TORN, entropy)
            assert files.read("/d/f") in (b"old", b"newer")


def test_directories_are_names_too() -> None:
    files = made()
    files.make_directory("/d/sub")
    write_file(files, "/d/sub/a", b"a")
    files.sync_directory("/d/sub")
    files.crash()
    assert files.list("/d") == []


def test_a_killed_process_loses_nothing_and_does_nothing_more() -> None:
    files = made()
    session: Files = files.session()
    file = session.open("/d/a", create=True)
    file.write_at(b"kept", 0)
    lock = session.lock("/d/lock")
    assert lock is not None
    files.crash(Unsynced.KEPT)
    assert files.dump("/d") == {"a": b"kept"}
    with pytest.raises(OSError, match="Bad file"):
        file.write_at(b"x", 0)
    with pytest.raises(OSError, match="Bad file"):
        session.remove("/d/a")
    files.lock("/d/lock").release()


def test_torn_writes_are_a_prefix_or_zeros_and_the_same_for_the_same_seed() -> None:
    seen: set[bytes] = set()
    for seed in range(40):
        contents = []
        for _ in range(2):
            files = made()
            file = files.open("/d/a", create=True)
            file.write_at(b"synced-", 0)
            file.sync()
            files.sync_directory("/d")
            file.write_at(b"abcdef", 7)
            files.crash(Unsynced.TORN, SeededEntropy(seed))
            contents.append(files.read("/d/a"))
        assert contents[0] == contents[1]
        content = contents[0]
        assert content.startswith(b"synced-")
        assert b"abcdef".startswith(content[7:].rstrip(b"\0"))
        seen.add(content)
    assert len(seen) > 5
    assert any(content.endswith(b"\0") for content in seen)


def test_faults_come_as_often_as_asked() -> None:
    files = made()
    file = files.open("/d/a", create=True)
    files.inject("write", "/d/a", errno.EIO, times=2)
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            file.write_at(b"x", 0)
    assert file.write_at(b"x", 0) == 1
    files.inject("read", "/d/a", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        file.read_at(1, 0)


def test_a_disk_fills_up_and_is_freed() -> None:
    files = made()
    file = files.open("/d/a", create=True)
    files.room_bytes = 4
    assert file.write_at(b"abcdef", 0) == 4
    with pytest.raises(OSError, match="No space"):
        file.write_at(b"x", 4)
    assert file.write_at(b"over", 0) == 4
    file.truncate(1)
    assert file.write_at(b"bcd", 1) == 3
    files.remove("/d/a")
    assert files.room_bytes == 4


def test_operations_are_noted_in_order() -> None:
    files = made()
    files.operations.clear()
    replace_file(files, "/d/f", b"new")
    assert [one.kind for one in files.operations] == ["create", "truncate", "write", "sync", "rename", "sync-directory"]


def test_syncs_of_other_threads_can_be_held() -> None:
    files = made()
    file = files.open("/d/a", create=True)
    file.write_at(b"x", 0)
    thread = threading.Thread(target=file.sync)
    with files.held_syncs():
        thread.start()
        assert not [one for one in files.operations if one.kind == "sync"]
    thread.join()
    assert [one.kind for one in files.operations][-1] == "sync"
