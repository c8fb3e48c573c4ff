"""Async glue: runs machines on logs and does their effects. Every call takes a `Caller` first and asks `state/access`."""
