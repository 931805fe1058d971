"""Changing the content of payload blocks, through a session."""
