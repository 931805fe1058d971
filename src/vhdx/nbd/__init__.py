"""Serving block devices over the network block device protocol. Knows `blockdev`, and no VHDX."""
