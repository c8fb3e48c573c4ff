"""The Kafka wire protocol: any Kafka client, unchanged."""
