"""`python -m vhdx` is the `vhdx` command."""

from vhdx.cli.main import entry_point

if __name__ == "__main__":
    entry_point()
