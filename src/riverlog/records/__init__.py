"""Record batches, format version 2, as Kafka writes them: header, records, builder, compression. Pure."""
