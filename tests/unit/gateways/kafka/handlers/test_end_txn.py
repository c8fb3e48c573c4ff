"""EndTxn: commit and abort in every version, the producer of the next transaction, repetitions, what is refused."""

from __future__ import annotations

import pytest

from riverlog.gateways.kafka.handlers import end_txn
from riverlog.gateways.kafka.schema.error_codes import ErrorCode
from riverlog.state.access import DenyAll
from tests.transaction_calls import Transactional, play

assert end_txn.end_txn


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("version", range(6))
def test_an_end_lets_readers_go_on(version: int, committed: bool, late: bool) -> None:
    async def story(client: Transactional) -> None:
        await client.init()
        before = client.epoch
        assert await client.add(("t", [0])) == [("t", 0, 0)]
        assert await client.produce(version=11) == 0
        assert not client.is_stable()
        answer = await client.end(committed, version)
        assert answer.error_code == 0
        if version >= 5:
            assert (answer.producer_id, answer.producer_epoch) == (client.producer_id, before + 1)
        else:
            assert (answer.producer_id, answer.producer_epoch) == (-1, -1)
        assert await client.add(("t", [1])) == [("t", 1, 0)]  # waits until the markers are written
        assert client.is_stable()
        committed_state = "Ongoing"
        assert (await client.describe()).transaction_state == committed_state

    play(story, late=late)


def test_an_end_of_version_5_may_be_repeated_and_its_late_batches_never_land() -> None:
    async def story(client: Transactional) -> None:
        await client.init()
        assert await client.produce() == 0
        old = client.epoch
        first = await client.end()
        following = client.epoch
        client.epoch = old
        again = await client.end()
        assert (again.error_code, again.producer_epoch) == (0, first.producer_epoch)
        client.epoch = old
        assert (await client.end(committed=False)).error_code == ErrorCode.INVALID_TXN_STATE
        assert await client.produce(sequence=1) == ErrorCode.INVALID_PRODUCER_EPOCH
        client.epoch = following
        assert await client.produce() == 0

    play(story)


def test_refused() -> None:
    async def story(client: Transactional) -> None:
        assert (await client.end()).error_code == ErrorCode.INVALID_PRODUCER_ID_MAPPING
        await client.init()
        assert (await client.end()).error_code == ErrorCode.INVALID_TXN_STATE
        client.epoch += 1
        for version, code in ((2, ErrorCode.PRODUCER_FENCED), (1, ErrorCode.INVALID_PRODUCER_EPOCH)):
            answer = await client.end(version=version)
            assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (code, -1, -1)

    play(story)


def test_denied() -> None:
    async def story(client: Transactional) -> None:
        assert (await client.end()).error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED

    play(story, denied=DenyAll())
