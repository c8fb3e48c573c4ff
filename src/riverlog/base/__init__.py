"""The vocabulary of riverlog: ids, errors, limits and units. Pure; imports nothing of ours."""
