"""The local engine: one directory of Kafka's segment files, one process, one group commit."""
