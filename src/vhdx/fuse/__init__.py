"""A block device as files in a directory, by FUSE. The binding is imported when something is mounted."""
