"""Transactions of one transactional id: a pure machine, its commands, its effects and its rows."""
