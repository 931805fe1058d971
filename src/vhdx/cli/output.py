"""What goes to stdout and stderr: escaped text, sizes, tables, JSON, complaints."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vhdx.findings import Finding

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def escape(text: str) -> str:
    r"""Make text from a file or a file name safe to print: \x1b, \u202e and the like for what is not printable.

    A byte of a file name that is not in the system's encoding becomes \xNN.
    """
    return text if text.isprintable() else "".join(map(_escape_character, text))


def _escape_character(character: str) -> str:
    code = ord(character)
    if character.isprintable():
        return character
    if 0xDC80 <= code <= 0xDCFF:  # how Python spells an undecodable byte
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def quote(text: str) -> str:
    """Text from a file, escaped and in quotes, so that its ends can be seen."""
    return f'"{escape(text)}"'


def size_text(size_bytes: int) -> str:
    """Spell a size for people: `1.5 GiB (1610612736 bytes)`."""
    short = short_size(size_bytes)
    return short if size_bytes < 1024 else f"{short} ({size_bytes} bytes)"


def short_size(size_bytes: int) -> str:
    """Spell a size for people, rounded: `1.5 GiB`."""
    if size_bytes < 1024:
        return f"{size_bytes} bytes"
    power = min((size_bytes.bit_length() - 1) // 10, len(_UNITS))
    tenths = (size_bytes * 10 + (1 << 10 * power) // 2) >> 10 * power
    whole, tenth = divmod(tenths, 10)
    return f"{whole}.{tenth} {_UNITS[power - 1]}" if tenth else f"{whole} {_UNITS[power - 1]}"


def print_fields(rows: Iterable[tuple[str, object]], indent: str = "") -> None:
    """Print names and values, the values in one column. Values must have been escaped."""
    listed = list(rows)
    width = max((len(name) for name, _ in listed), default=0) + 1
    for name, value in listed:
        print(f"{indent}{name + ':':{width}} {value}")


def print_json(value: object) -> None:
    """Print a value as JSON in ASCII, so that no text in it can hurt a terminal or an encoding."""
    import json

    print(json.dumps(value, indent=4))


def print_json_list(items: Iterable[object]) -> None:
    """Print a list as JSON, one item on each line, each as soon as it is known."""
    import json

    write = sys.stdout.write
    lead = "["
    for item in items:
        write(f"{lead}{json.dumps(item)}")
        lead = ",\n"
    write("]\n" if lead != "[" else "[]\n")


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding under the keys that `check`, `info` and `dump` share."""
    return {
        "severity": finding.severity.value,
        "code": finding.code.value,
        "structure": finding.structure,
        "file-offset": finding.file_offset,
        "problem": finding.problem,
        "rule": finding.rule,
        "found": finding.found,
        "expected": finding.expected,
        "consequence": finding.consequence,
    }


def print_findings(findings: Sequence[Finding]) -> None:
    """Print findings for people, one on each line."""
    if findings:
        print("findings:")
    for finding in findings:
        print(f"    {escape(str(finding))}")


def complain(message: str) -> None:
    """Print one line on stderr. That stderr cannot be written to is no error."""
    try:
        print(f"vhdx: {escape(message)}", file=sys.stderr, flush=True)
    except OSError:
        pass


_ADVICE: Final = {
    errno.ENOENT: "check the name",
    errno.EEXIST: "choose another name, or replace it with --force",
    errno.EACCES: "check its permissions, or run as a user who may use it",
    errno.EPERM: "check its permissions, or run as a user who may use it",
    errno.EISDIR: "name a file",
    errno.EROFS: "choose a place that can be written to",
    errno.ENOSPC: "free some space and try again",
    errno.EFBIG: "choose a file system that takes files of this size",
    errno.EIO: "the medium fails: save what can still be read",
    errno.EBADF: "standard output is closed: send it to a file or to /dev/null",
}


UNRELIABLE: Final = "read although another process may be writing to it: the result is not reliable"


def warn_unreliable(name: str) -> None:
    """Say on stderr that a file is read in spite of locks."""
    complain(f"warning: {name}: {UNRELIABLE}")


def describe_os_error(error: OSError) -> str:
    """One sentence for an error of the operating system: file, reason, and what to do about it."""
    name = error.filename
    where = "" if name is None else f"{os.fsdecode(name)}: "
    reason = error.strerror or str(error) or type(error).__name__
    advice = _ADVICE.get(error.errno or 0)
    return f"{where}{reason}; {advice}" if advice else f"{where}{reason}"


def flush_output() -> None:
    """Write out what was printed. Raises: OSError, such as a full disk or a reader that has gone."""
    if sys.stdout is not None:
        sys.stdout.flush()
