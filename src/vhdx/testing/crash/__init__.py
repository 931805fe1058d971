"""What a power cut may leave of a file, for every moment of a program that writes to one."""
