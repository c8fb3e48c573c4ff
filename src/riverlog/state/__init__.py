"""Pure machines: step(command, now) -> effects. They touch no loop, clock, socket or file."""
