"""What is made is parsed; what is not ours is not."""

import pytest

from riverlog.base.ids import Offset, TopicId, TopicName
from riverlog.storage.format import names

TOPIC_ID = TopicId(bytes(range(16)))


def test_segment_files_have_twenty_digits() -> None:
    assert names.segment_name(Offset(0)) == "00000000000000000000"
    assert names.segment_file_name(Offset(2**63 - 1), names.INDEX) == "09223372036854775807.index"


@pytest.mark.parametrize("suffix", names.SEGMENT_SUFFIXES)
def test_segment_files_are_parsed(suffix: str) -> None:
    name = names.segment_file_name(Offset(42), suffix)
    assert names.parse_segment_file_name(name) == (42, suffix, False)
    assert names.parse_segment_file_name(name + names.DELETED) == (42, suffix, True)


@pytest.mark.parametrize(
    "name",
    [
        "0.log",
        "00000000000000000000",
        "00000000000000000000.txt",
        "99999999999999999999.log",
        "leader-epoch-checkpoint",
        names.cut_name(Offset(0), 1),
        "00000000000000000000.log.tmp",
        "٠" * 20 + ".log",
        "00000000000000000000.log\n",
    ],
)
def test_other_names_are_no_segment_files(name: str) -> None:
    assert names.parse_segment_file_name(name) is None


@pytest.mark.parametrize(("topic", "index"), [("a", 0), ("a-b", 10), ("a-1", 2), ("a.b_c", 2**31 - 1), ("x" * 249, 7)])
def test_partition_directories(topic: str, index: int) -> None:
    name = names.partition_directory_name(TopicName(topic), index)
    assert names.parse_partition_directory_name(name) == (topic, index)


@pytest.mark.parametrize("name", ["a", "a-", "-0", "a-01", "a-2147483648", "a/b-0", "a-0.deleted", "a-0\n", "é-0"])
def test_other_names_are_no_partition_directories(name: str) -> None:
    assert names.parse_partition_directory_name(name) is None


def test_a_deleted_topics_directory_is_never_taken_for_a_partition() -> None:
    name = names.deleted_directory_name(TOPIC_ID, 3)
    assert name == "000102030405060708090a0b0c0d0e0f-3.deleted"
    assert names.parse_deleted_directory_name(name) == (TOPIC_ID, 3)
    assert names.parse_partition_directory_name(name) is None
    assert names.parse_deleted_directory_name("a-0.deleted") is None
