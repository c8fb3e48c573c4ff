"""Transactions on a machine that crashes: who writes and reads, and a checker that knows what they were told."""
