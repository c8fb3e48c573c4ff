"""Where the machines' facts are kept: topics, configs, groups, offsets. Rows, in scopes."""
