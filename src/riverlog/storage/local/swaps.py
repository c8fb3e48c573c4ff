"""Putting compacted segments in the place of old ones, so that a crash at any moment leaves the old or the new, whole.

Invariants: before the manifest (`swap`) is durable nothing of the old files is touched, and after it every step may be done
again; an old file is renamed or replaced, never written. All of it runs on a thread, or in recovery. See docs/formats/swap.md.
Not here: what the new files hold (`cleaner.py`), the segments in memory and when the manifest goes (`compacting.py`).
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from typing import Final

from riverlog.base.ids import Offset, PartitionId
from riverlog.env.files import Files, replace_file
from riverlog.storage.format import names, swap
from riverlog.storage.format.checkpoint import PartitionMark, SegmentMark
from riverlog.storage.format.errors import FormatError
from riverlog.storage.format.swap import Group, Swap

log = logging.getLogger(__name__)

CLEANED: Final = ".cleaned"  # behind a segment's file name: written by compaction, not in place yet
NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
SUFFIXES: Final = (names.LOG, names.INDEX, names.TIME_INDEX, names.TXN_INDEX)  # snapshots stay where they are


def is_cleaned(name: str) -> bool:
    """A file that a compaction left which did not come to its manifest."""
    return name.endswith(CLEANED) and names.parse_segment_file_name(name.removesuffix(CLEANED)) is not None


def begin_swap(files: Files, directory: str, content: Swap) -> None:
    """The commit point: the new files, which are synced, count from here on. Raises OSError; then it may be there or not."""
    files.sync_directory(directory)
    replace_file(files, f"{directory}/{names.SWAP}", swap.encode(content))


def take_back(files: Files, directory: str, content: Swap) -> None:
    """After `begin_swap` failed: makes sure, durably, that there is no manifest, then removes the new files. Raises OSError; then
    it is not known which of the two count."""
    forget_manifest(files, directory)
    remove_cleaned(files, directory, [mark.base_offset for group in content.groups for mark in group.fresh])


def forget_manifest(files: Files, directory: str) -> None:
    """Makes sure, durably, that there is none. Raises OSError."""
    for name in (names.SWAP, names.SWAP + names.TEMPORARY):
        try:
            files.remove(f"{directory}/{name}")
        except FileNotFoundError:
            pass
    files.sync_directory(directory)


def remove_cleaned(files: Files, directory: str, bases: Sequence[Offset]) -> None:
    """What a compaction that was given up has written. What cannot be removed goes with the next start."""
    for base_offset in bases:
        for suffix in SUFFIXES:
            try:
                files.remove(f"{directory}/{names.segment_file_name(base_offset, suffix)}{CLEANED}")
            except OSError:
                continue


def put_in_place(files: Files, directory: str, groups: Sequence[Group]) -> list[str]:
    """Gives the new files their names, durably; may be done any number of times. Gives the paths of what waits for its removal.
    Raises OSError.

    A file gets its name as a second one, and loses the first once the directory was synced: also where a disk has of a
    rename the one half and not the other, no file is without a name."""
    doomed: list[str] = []
    cleaned: list[str] = []
    for group in groups:
        for mark in group.fresh:
            cleaned += put_segment(files, directory, mark)
        fresh = {mark.base_offset for mark in group.fresh}
        for base_offset in group.replaced:
            if base_offset in fresh:
                continue
            for suffix in SUFFIXES:
                path = f"{directory}/{names.segment_file_name(base_offset, suffix)}"
                try:
                    files.rename(path, path + names.DELETED)
                except FileNotFoundError:
                    continue
                doomed.append(path + names.DELETED)
    files.sync_directory(directory)
    for path in cleaned:
        files.remove(path)
    return doomed


def put_segment(files: Files, directory: str, mark: SegmentMark) -> list[str]:
    """Gives the first names of its files, which are still there."""
    stem = f"{directory}/{names.segment_file_name(mark.base_offset, '')}"
    cleaned: list[str] = []
    for suffix in SUFFIXES:
        path = stem + suffix
        if files.exists(path + CLEANED):
            if files.exists(path + names.TEMPORARY):
                files.remove(path + names.TEMPORARY)
            try:
                files.link(path + CLEANED, path + names.TEMPORARY)
            except OSError as error:
                if error.errno not in NO_LINKS:
                    raise
                files.rename(path + CLEANED, path)  # a filesystem without links: its renames are what it has
                continue
            files.rename(path + names.TEMPORARY, path)
            cleaned.append(path + CLEANED)
        elif suffix == names.TXN_INDEX and (mark.checksums is None or mark.checksums.transactions is None):
            if files.exists(path):
                files.remove(path)  # the old one's: the new segment has none
    return cleaned


def finish_swaps(
    files: Files, directory: str, mark: PartitionMark | None, partition: PartitionId
) -> PartitionMark | None:
    """Makes whole what a swap left, for recovery; doing it again changes nothing. Gives the mark as the new segments have it
    (None where there was none). The manifest stays: a checkpoint that names the new segments lets it go.
    Raises OSError, and Corruption where the manifest is damaged."""
    path = f"{directory}/{names.SWAP}"
    try:
        content = swap.decode(files.read(path))
    except FileNotFoundError:
        return mark
    except FormatError as error:
        raise error.at(path) from None
    if content.partition != partition:
        files.remove(path)
        return mark
    for name in put_in_place(files, directory, content.groups):
        files.remove(name)
    log.info("%s: the segments that compaction was putting into place are there", directory)
    return None if mark is None else swapped(mark, content.groups)


def swapped(mark: PartitionMark, groups: Sequence[Group]) -> PartitionMark:
    """The mark with the new segments in the place of those that it has. What retention has removed does not come back."""
    segments = {segment.base_offset: segment for segment in mark.segments}
    for group in groups:
        gone = [base_offset for base_offset in group.replaced if segments.pop(base_offset, None) is not None]
        split = [one.base_offset for one in group.fresh if segments.pop(one.base_offset, None) is not None]
        if gone or split:
            first = min((*gone, *split))
            segments |= {one.base_offset: one for one in group.fresh if one.last_offset >= first}
    return mark._replace(segments=tuple(segments[base_offset] for base_offset in sorted(segments)))
