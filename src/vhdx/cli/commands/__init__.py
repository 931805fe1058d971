"""One file for each verb of the command line: its options, and what it does with them."""
