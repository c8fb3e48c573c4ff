"""The byte formats of the data directory: bytes in, values out, and back. Pure: no files, no paths, no clock.

Whatever the bytes are, a decoder gives a value or raises `FormatError`; who knows the path makes it a `Corruption`.
"""
