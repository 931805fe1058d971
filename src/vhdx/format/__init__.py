"""The on-disk structures of [MS-VHDX]: bytes to frozen dataclasses and back. Pure: no files, no threads."""
