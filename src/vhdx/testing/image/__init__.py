"""Any image, sound or not, and a plain reader that shares no code with the library."""
