"""Randomness: one seed, one history."""

from __future__ import annotations

from riverlog.env.entropy import SeededEntropy, SystemEntropy


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
