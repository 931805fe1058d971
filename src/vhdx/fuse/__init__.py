"""A block device as files in a directory, by FUSE. Knows block devices, and nothing of VHDX.

For use from outside: `files` (disk_files), `mount` (Mount), `requirements` (what mounting needs), `unmounting`, and
`holders` (which programs use a mount or an image). `binding`, which alone imports the FUSE library, is imported when
something is mounted.
"""
