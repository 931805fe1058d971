"""Disks as block devices: one layer of each format, the chain of them, the calls that change them."""
