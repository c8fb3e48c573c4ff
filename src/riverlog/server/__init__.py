"""Composition root of the standing broker: settings, lifecycle, listeners. Names the engine."""
