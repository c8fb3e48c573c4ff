"""One broker process: settings, composition, lifecycle."""
