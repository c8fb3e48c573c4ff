"""Turns the facts about Kafka's messages (`messages/*.json`, `errors.tsv`) into `src/riverlog/gateways/kafka/schema`.

`python -m tools.kafka_schema` writes, `--check` compares and exits 1 on any difference. The output depends on the
facts alone.
"""
