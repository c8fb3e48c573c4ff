"""What every implementation of a contract must do, as test classes to inherit from."""
