"""The `vhdx` command: options, messages and exit codes around the library's verbs."""
