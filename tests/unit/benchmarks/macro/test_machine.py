"""Facts about a machine, from what Linux says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.macro import machine


def test_the_model_of_the_processor() -> None:
    assert (
        machine.cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n\nmodel name\t: other\n")
        == "Some CPU @ 2 GHz"
    )


def test_memory_in_bytes() -> None:
    assert machine.memory_bytes("MemTotal:       2048 kB\nMemFree: 1 kB\n") == 2 * 2**20


@pytest.mark.parametrize(("directory", "kind"), [("/data/x", "xfs"), ("/database", "ext4"), ("/", "ext4")])
def test_the_file_system_is_that_of_the_longest_mount_point(directory: str, kind: str) -> None:
    mounts = "/dev/a / ext4 rw 0 0\n/dev/b /data xfs rw 0 0\n"
    assert machine.file_system(mounts, Path(directory)) == kind


def test_a_label_is_fit_for_a_file_name() -> None:
    facts = {"CPU": "Intel(R) Xeon(R) Gold CPU @ 2.90GHz", "cores": "2"}
    assert machine.label(facts) == "2-cores-intel-xeon-gold"


def test_the_facts_hold_no_host_name_and_no_path(tmp_path: Path) -> None:
    facts = machine.facts(tmp_path)
    assert str(tmp_path) not in str(facts)
    assert {"CPU", "cores", "memory", "kernel", "Python"} <= facts.keys()
