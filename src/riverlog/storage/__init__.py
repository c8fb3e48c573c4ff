"""Logs: the contract of a storage engine, and the engines that keep it."""
