"""Functions over buffers: the compiled ones where they were built, else their readable twin. Same names, same results.

`reference.py` is the specification, `compiled.pyx` the fast twin; one suite of tests runs on both. The choice is made
once, by whether the extension can be imported; who needs one of the two (a test, a benchmark) imports it by its name.
"""
