"""What any block device is: no VHDX here, and no operating system."""
