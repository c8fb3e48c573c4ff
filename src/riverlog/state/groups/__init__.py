"""Groups as pure machines: who is a member, who owns what, how far each group has read."""
