"""A wire protocol each; they know nothing of each other."""
