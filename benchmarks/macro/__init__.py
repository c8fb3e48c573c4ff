"""Whole brokers side by side: riverlog and Apache Kafka, alternating, on one disk, under the same loads.

`python -m benchmarks.macro` (what `make bench` calls) prints the table and writes it to `benchmarks/results/`."""
