"""The HTTP port: /metrics and /healthz. More comes here later."""
