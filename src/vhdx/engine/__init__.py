"""The private machinery of one open file."""
