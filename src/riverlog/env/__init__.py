"""The outside world as arguments: clock, entropy, executor, files, sockets, telemetry. Protocols, and the real ones."""
