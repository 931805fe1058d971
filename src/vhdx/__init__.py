"""VHDX virtual disks: open, read, check, map, compare, convert and create them."""
