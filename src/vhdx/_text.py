"""How content of a file, and numbers, are spelled in messages."""

from typing import Final

_LONGEST: Final = 120
"""Characters of a text from a file that a message shows: a hostile one may be very long."""


def quoted(text: str) -> str:
    """A text from a file in quotes, shortened, its backslashes as they are."""
    return f"'{text}'" if len(text) <= _LONGEST else f"'{text[:_LONGEST]}...' ({len(text)} characters)"


def quoted_all(texts: list[str]) -> str:
    """Several of them, shortened."""
    shown = ", ".join(quoted(text) for text in texts[:8])
    return shown if len(texts) <= 8 else f"{shown} and {len(texts) - 8} more"


def spelled(data: bytes) -> str:
    """Bytes as text in quotes if they are printable ASCII, else in hexadecimal."""
    if data and all(0x20 <= byte < 0x7F for byte in data):
        return f"'{data.decode('ascii')}'"
    return f"bytes {data.hex(' ')}" if data else "nothing"


def counted(count: int, one: str, many: str = "") -> str:
    """A number with its noun: "1 entry", "2 entries"."""
    return f"{count} {one}" if count == 1 else f"{count} {many or one + 's'}"
