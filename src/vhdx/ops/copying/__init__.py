"""Copying what a disk holds: the walk over the source, the workers, the search for zeroes, the destination."""
