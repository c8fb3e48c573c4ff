"""One file an api key. Each opens with what it promises, what each version added and what is left out, and declares its
versions."""
