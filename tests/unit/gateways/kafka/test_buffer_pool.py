"""Buffers that wait for the next large frame."""

from __future__ import annotations

from riverlog.gateways.kafka.buffer_pool import BufferPool, pooled_buffer_bytes_max, pooled_buffer_bytes_min


def test_a_buffer_that_was_given_back_is_taken_again() -> None:
    pool = BufferPool()
    buffer = pool.take(20_000)
    assert len(buffer) == 32_768
    pool.give(buffer)
    assert pool.size == 32_768
    assert pool.take(17_000) is buffer
    assert pool.size == 0


def test_small_ones_have_the_least_size_and_large_ones_are_not_kept() -> None:
    pool = BufferPool()
    assert len(pool.take(1)) == pooled_buffer_bytes_min
    large = pool.take(pooled_buffer_bytes_max + 1)
    assert len(large) == pooled_buffer_bytes_max + 1
    pool.give(large)
    assert pool.size == 0


def test_what_waits_has_a_limit() -> None:
    pool = BufferPool(bytes_max=40_000)
    for _ in range(3):
        pool.give(bytearray(pooled_buffer_bytes_min))
    assert pool.size == 2 * pooled_buffer_bytes_min
