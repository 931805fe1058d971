"""Judging a whole block table, and the bitmaps that it names, in one pass."""
