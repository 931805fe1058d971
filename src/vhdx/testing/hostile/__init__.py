"""Sound images made wrong, reproducibly."""
