"""Randomness: one seed, one history."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from riverlog.env.entropy import SeededEntropy, SystemEntropy, pooled_bytes


def test_a_seed_gives_the_same_numbers_again() -> None:
    first, second, other = SeededEntropy(1), SeededEntropy(1), SeededEntropy(2)
    drawn = [(first.token_bytes(8), first.below(1000)) for _ in range(5)]
    assert drawn == [(second.token_bytes(8), second.below(1000)) for _ in range(5)]
    assert drawn != [(other.token_bytes(8), other.below(1000)) for _ in range(5)]


def test_the_systems_numbers_are_in_their_range() -> None:
    entropy = SystemEntropy()
    assert len(entropy.token_bytes(16)) == 16
    assert entropy.token_bytes(16) != entropy.token_bytes(16)
    assert all(0 <= entropy.below(3) < 3 for _ in range(100))


def test_no_byte_of_the_systems_is_given_twice() -> None:
    entropy = SystemEntropy()
    tokens = [entropy.token_bytes(16) for _ in range(3 * pooled_bytes // 16)]
    assert len(set(tokens)) == len(tokens)
    assert {len(entropy.token_bytes(count)) for count in (1, pooled_bytes, pooled_bytes + 1)} == {
        1, pooled_bytes, pooled_bytes + 1,
    }  # fmt: skip


def test_the_systems_numbers_come_on_any_thread() -> None:
    entropy = SystemEntropy()
    with ThreadPoolExecutor(4) as threads:
        batches = threads.map(lambda _: [entropy.token_bytes(16) for _ in range(2_000)], range(4))
        drawn = [token for batch in batches for token in batch]
    assert len(set(drawn)) == 8_000
    assert {len(token) for token in drawn} == {16}
