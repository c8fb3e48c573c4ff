"""The deterministic simulator: a local engine on a machine that crashes, one seed one history. See docs/guide/durability.md."""
