"""The shipped test kit: fixtures, conformance suites, fakes."""
