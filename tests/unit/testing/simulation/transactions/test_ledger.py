"""What the checker of transactions takes for broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from riverlog.base.ids import PartitionId, TopicId
from riverlog.testing.simulation.model import Violation
from riverlog.testing.simulation.transactions.ledger import Attempt, Committed, Fate, Ledger, Place, Seen

P0 = PartitionId(TopicId(b"t" * 16), 0)
P1 = PartitionId(TopicId(b"t" * 16), 1)
PLACE = Place("g", P0)


def begun(ledger: Ledger, *values: str, client: str = "c") -> Attempt:
    """The first value goes to P0, the others to P1; all are in the log."""
    attempt = ledger.begin(client, 0)
    ledger.send(attempt, P0, values[:1])
    ledger.send(attempt, P1, values[1:])
    attempt.sure.update(values)
    return attempt


def ended(ledger: Ledger, fate: Fate, *values: str) -> Attempt:
    attempt = begun(ledger, *values)
    if fate in (Fate.DOUBT, Fate.COMMITTED):
        ledger.commit_asked(attempt)
    if fate is Fate.COMMITTED:
        ledger.committed(attempt)
    if fate is Fate.ABORTED:
        ledger.aborted(attempt)
    assert attempt.fate is fate
    return attempt


def settle(
    ledger: Ledger,
    logs: Mapping[PartitionId, Sequence[str]],
    offsets: Mapping[Place, Committed] | None = None,
    inputs: Mapping[Place, str] | None = None,
) -> None:
    seen = {one: [Seen(at, value) for at, value in enumerate(logs.get(one, ()))] for one in (P0, P1)}
    ledger.settle(seen, offsets or {}, inputs or {})


@pytest.mark.parametrize(
    ("fate", "visible", "kind"),
    [
        (Fate.COMMITTED, {P0: ["c.1"], P1: ["c.2"]}, None),
        (Fate.COMMITTED, {P0: ["c.1"]}, "torn"),
        (Fate.COMMITTED, {}, "lost"),
        (Fate.DOUBT, {P0: ["c.1"], P1: ["c.2"]}, None),
        (Fate.DOUBT, {}, None),
        (Fate.DOUBT, {P1: ["c.2"]}, "torn"),
        (Fate.ABORTED, {}, None),
        (Fate.ABORTED, {P0: ["c.1"]}, "aborted seen"),
        (Fate.OPEN, {}, None),
        (Fate.OPEN, {P0: ["c.1"], P1: ["c.2"]}, "aborted seen"),
        (Fate.COMMITTED, {P0: ["c.1"], P1: ["c.2", "c.2"]}, "duplicate"),
        (Fate.COMMITTED, {P0: ["c.1"], P1: ["c.3"]}, "stranger"),
        (Fate.COMMITTED, {P0: ["c.2"], P1: ["c.1"]}, "stranger"),
    ],
)
def test_a_transaction_is_visible_whole_or_not_at_all(
    fate: Fate, visible: Mapping[PartitionId, Sequence[str]], kind: str | None
) -> None:
    ledger = Ledger()
    ended(ledger, fate, "c.1", "c.2")
    if kind is None:
        settle(ledger, visible)
        return
    with pytest.raises(Violation) as violation:
        settle(ledger, visible)
    assert violation.value.kind == kind


def test_what_was_seen_cannot_be_aborted() -> None:
    ledger = Ledger()
    attempt = ended(ledger, Fate.DOUBT, "c.1")
    ledger.visible(P0, 0, "c.1")
    with pytest.raises(Violation, match="aborted seen"):
        ledger.aborted(attempt)


def test_an_offset_keeps_its_record() -> None:
    ledger = Ledger()
    ended(ledger, Fate.COMMITTED, "c.1")
    ledger.appeared(P0, 5, "c.1")
    ledger.appeared(P0, 5, "c.1")
    with pytest.raises(Violation, match="replaced"):
        ledger.appeared(P0, 5, "c.2")


def test_records_of_a_sender_keep_their_order() -> None:
    ledger = Ledger()
    attempt = ledger.begin("c", 0)
    ledger.send(attempt, P0, ["c.1", "c.2"])
    ledger.commit_asked(attempt)
    with pytest.raises(Violation, match="order"):
        settle(ledger, {P0: ["c.2", "c.1"]})


def test_a_record_of_no_transaction_is_there_once_it_was_acknowledged() -> None:
    ledger = Ledger()
    ledger.plain = {"p.1": True, "p.2": False}
    settle(ledger, {P0: ["p.1"]})
    settle(ledger, {P0: ["p.1", "p.2"]})
    with pytest.raises(Violation, match="lost"):
        settle(ledger, {P1: ["p.2"]})


def test_an_offset_is_of_the_last_transaction_that_was_committed() -> None:
    ledger = Ledger()
    for number, fate in enumerate((Fate.COMMITTED, Fate.COMMITTED, Fate.DOUBT)):
        ended(ledger, fate, f"c.{number}").offsets[PLACE] = 10 + number
    logs = {P0: ["c.0", "c.1"]}
    assert ledger.answered(PLACE) == 1
    settle(ledger, logs, {PLACE: Committed(11, "1")})
    for wrong in (Committed(10, "0"), Committed(12, "2")):
        with pytest.raises(Violation, match="torn"):
            settle(ledger, logs, {PLACE: wrong})
    with pytest.raises(Violation, match="torn"):
        settle(ledger, {P0: ["c.0", "c.1", "c.2"]}, {PLACE: Committed(11, "1")})
    with pytest.raises(Violation, match="stranger"):
        settle(ledger, logs, {PLACE: Committed(7, "1")})


def test_an_aborted_offset_is_nobodys() -> None:
    ledger = Ledger()
    attempt = begun(ledger, "c.1")
    attempt.offsets[PLACE] = 5
    with pytest.raises(Violation, match="aborted seen"):
        ledger.offset_seen(PLACE, Committed(5, "0"))
    ledger.commit_asked(attempt)
    assert ledger.offset_seen(PLACE, Committed(5, "0")) is attempt
    with pytest.raises(Violation, match="aborted seen"):
        ledger.aborted(attempt)


@pytest.mark.parametrize(
    ("outputs", "end", "kind"),
    [
        (["w.1<p.1"], 1, None),
        (["w.1<p.1", "w.2<p.2"], 2, None),
        ([], 0, None),
        (["w.1<p.1"], 2, "not once"),
        (["w.1<p.1", "w.2<p.2"], 1, "not once"),
        (["w.1<p.1", "w.2<p.1"], 1, "not once"),
    ],
)
def test_a_worker_gives_each_source_once(outputs: Sequence[str], end: int, kind: str | None) -> None:
    ledger = Ledger()
    ledger.plain = {"p.1": True, "p.2": True}
    attempt = ledger.begin("w", 0)
    ledger.send(attempt, P1, outputs)
    ledger.commit_asked(attempt)
    attempt.offsets[PLACE] = end
    logs = {P0: ["p.1", "p.2"], P1: outputs}
    offsets = {PLACE: Committed(end, "0")}
    if kind is None:
        settle(ledger, logs, offsets, {PLACE: "w"})
        return
    with pytest.raises(Violation) as violation:
        settle(ledger, logs, offsets, {PLACE: "w"})
    assert violation.value.kind == kind
