"""What the library promises for any file and any client, held against hostile ones."""
