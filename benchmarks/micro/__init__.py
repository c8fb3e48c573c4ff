"""Functions in a loop: `python -m benchmarks.micro.NAME`. They show what a change did, not what a broker does."""
