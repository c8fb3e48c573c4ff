"""`make demo`: real data through one broker and unmodified Kafka clients, with a kill -9 half-way, checked at the end."""
