"""Partition tables of a disk, and which file systems its partitions hold. Knows `blockdev`, and no VHDX."""
