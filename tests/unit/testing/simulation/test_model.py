"""The checker: what it takes, and what it calls broken."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from riverlog.base.ids import Offset, PartitionId, TopicId
from riverlog.storage.contract import Durability, LogConfig, Watermarks
from riverlog.testing.simulation.model import PartitionModel, Seen, Sent, Violation

ID = PartitionId(TopicId(b"0123456789abcdef"), 0)


def made(**config: object) -> PartitionModel:
    model = PartitionModel(ID, LogConfig(retention_ms=-1, **config))  # type: ignore[arg-type]
    for number in range(6):
        model.send(f"a{number}", Sent("a", number, b"k", False))
    return model


def there(*values: str, first: int = 0) -> dict[int, Seen]:
    return {first + at: Seen(first + at, value, b"k", False) for at, value in enumerate(values)}


def marks(start: int, end: int, epoch: int = 1) -> Watermarks:
    begin, behind = Offset(start), Offset(end)
    return Watermarks(begin, behind, behind, behind, behind, epoch)


def broken(model: PartitionModel, found: Mapping[int, Seen], at: Watermarks, *, clean: bool = False) -> str:
    with pytest.raises(Violation) as caught:
        model.recovered(at, found, clean=clean)
    return caught.value.kind


def test_what_was_acknowledged_with_all_acks_survives_everything() -> None:
    model = made()
    model.acknowledged(0, ["a0", "a1"], all_acks=True)
    model.power_lost()
    model.cut()
    assert broken(model, there("a0"), marks(0, 1)) == "lost"
    assert broken(model, there("a1", "a0"), marks(0, 2)) == "replaced"
    assert broken(model, there("a0", "a1", "a3", "a2"), marks(0, 4)) == "order"
    assert broken(model, there("a0", "a2"), marks(0, 2)) == "replaced"
    model.recovered(marks(0, 3), there("a0", "a1", "a2"), clean=False)
    assert broken(model, there("a0", "a1"), marks(0, 2, 2)) == "lost", "it was recovered, and visible"


def test_what_one_broker_has_written_survives_its_death_alone() -> None:
    model = made()
    model.acknowledged(0, ["a0"], all_acks=False)
    assert broken(model, {}, marks(0, 0)) == "lost"
    model.power_lost()
    model.recovered(marks(0, 0), {}, clean=False)
    assert model.lossy
    weak = made(durability=Durability.PAGE_CACHE)
    weak.acknowledged(0, ["a0"], all_acks=True)
    assert broken(weak, {}, marks(0, 0)) == "lost"
    weak.power_lost()
    weak.recovered(marks(0, 0), {}, clean=False)


def test_strangers_duplicates_holes_and_early_reads() -> None:
    model = made()
    assert broken(model, there("b0"), marks(0, 1)) == "stranger"
    assert broken(model, there("a1", "a1"), marks(0, 2)) == "duplicate"
    with pytest.raises(Violation, match="hole"):
        model.read(list(there("a0", first=1).values()), 0, 2)
    model.read(list(there("a0").values()), 0, 1)
    with pytest.raises(Violation, match="replaced"):
        model.acknowledged(0, ["a1"], all_acks=True)
    with pytest.raises(Violation, match="changed"):
        model.read([Seen(1, "a1", b"other", False)], 1, 2)


def test_ends_and_epochs() -> None:
    model = made()
    model.recovered(marks(0, 0, 3), {}, clean=True)
    assert broken(model, {}, marks(0, 0, 3)) == "epoch"
    assert broken(model, {}, marks(0, 0, 2), clean=True) == "epoch"
    assert broken(model, {}, marks(1, 1, 4)) == "log start"
    model.start_asked = 5
    model.start_told = 2
    assert broken(model, {}, marks(1, 5, 4)) == "log start"
    model.committed = 6
    assert broken(model, {}, marks(2, 5, 4)) == "committed offset"
    assert broken(model, {}, marks(2, 5, 4)._replace(durable_end=Offset(4))) == "watermark"
    model.committed = 5
    model.recovered(marks(2, 5, 4), there("a2", "a3", "a4", first=2), clean=False)
    with pytest.raises(Violation, match="watermark"):
        model.marks(marks(2, 4, 4))
    model.marks(marks(2, 4, 5))


def test_compaction_may_take_what_has_a_later_record_of_its_key() -> None:
    model = made(cleanup_compact=True)
    model.acknowledged(0, ["a0", "a1"], all_acks=True)
    model.recovered(marks(0, 2), there("a1", first=1), clean=False)
    assert broken(model, {}, marks(0, 2, 2)) == "lost"


def test_of_a_damaged_partition_only_wrong_records_are_wrong() -> None:
    model = made()
    model.acknowledged(0, ["a0", "a1"], all_acks=True)
    model.damaged = True
    model.recovered(marks(0, 1), there("a0"), clean=False)
    assert broken(model, there("x"), marks(0, 1)) == "stranger"
    assert broken(model, there("a1"), marks(0, 1)) == "replaced"
