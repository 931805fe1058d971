"""Where an image's bytes live: files, memory, and views of them. No VHDX here."""
