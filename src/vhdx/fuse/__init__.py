"""An open disk as files in a directory. Knows `blockdev`, and no VHDX."""
