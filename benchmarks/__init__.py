"""Benchmarks: `micro` (functions), `macro` (whole brokers side by side), `peers` (how rivals and loads are started)."""
