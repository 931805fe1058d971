"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from vhdx.disks.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vhdx.disks.options import OpenOptions, ParentPolicy

_UNITS: Final = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_MAX_DIGITS: Final = 20
_MIN_WIDTH: Final = 40
_DEFAULT_WIDTH: Final = 100

SECTOR_SIZES: Final = (512, 4096)


class UsageError(Exception):
    """The command line asks for something that cannot be; the message is for the user."""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Lays out help for the terminal's width. Left to itself, argparse imports shutil and lzma to ask."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_terminal_width() - 2)


def _terminal_width() -> int:
    try:
        return max(os.get_terminal_size(1).columns, _MIN_WIDTH)
    except OSError:
        return _DEFAULT_WIDTH


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are exceptions, and which takes no abbreviated options."""

    def __init__(self, **settings: object) -> None:
        settings.setdefault("allow_abbrev", False)
        settings.setdefault("formatter_class", _Formatter)
        if sys.version_info >= (3, 14):
            settings.setdefault("color", False)  # no escape sequence is printed, on whatever Python
        super().__init__(**settings)  # type: ignore[arg-type]

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help or version. Raises: OSError, which argparse would keep to itself."""
        (file or sys.stdout).write(message)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line. Raises: UsageError."""
        raise UsageError(f"{message}{self._suggestion(message)}; see '{self.prog} --help'")

    def _suggestion(self, message: str) -> str:
        """The option that was meant, perhaps, by one that does not exist."""
        introduction, _, words = message.partition("unrecognized arguments: ")
        option = words.split("=")[0].split()[0] if words and not introduction else ""
        return did_you_mean(option, self._option_string_actions) if option.startswith("--") else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question about the known word that is nearest, such as ": did you mean 'info'?"; empty if none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, list(known), 1)
    return f": did you mean {near[0]!r}?" if near else ""


def parse_size(text: str) -> int:
    """Read a size in bytes: 512, 4K, 1.5G, 10GB, 64TiB. All units are powers of 1024.

    Raises: argparse.ArgumentTypeError.
    """
    number, unit = _split_size(text)
    whole, _, fraction = number.partition(".")
    if unit not in _UNITS or not text.isascii() or not _is_number(number):
        raise argparse.ArgumentTypeError(_size_complaint(text, number))
    if len(number) > _MAX_DIGITS:
        raise argparse.ArgumentTypeError(f"{text!r} is too large")
    scale: int = 10 ** len(fraction)
    size, rest = divmod(int(whole + fraction) << _UNITS[unit], scale)
    if rest:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number of bytes: give it in a smaller unit"
        )
    return size


def _is_number(text: str) -> bool:
    """Whether it is digits, or digits, a point, and digits."""
    return all(part.isdigit() for part in text.split(".", 1))


def _split_size(text: str) -> tuple[str, str]:
    """A number and its unit, one letter or none: K for K, KB and KiB."""
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(number) :].upper()
    if unit == "B":
        return number, ""
    if len(unit) == 2 and unit.endswith("B"):
        return number, unit[0]
    return number, unit[0] if len(unit) == 3 and unit.endswith("IB") else unit


def _size_complaint(text: str, number: str) -> str:
    if "," in number and number.replace(",", "").replace(".", "").isdigit():
        return f"{text!r} has a comma: write the digits without it, and a fraction with a point"
    return f"{text!r} is not a size: give bytes, or a number with K, M, G, T, P or E (powers of 1024), such as 127G"


def add_image(parser: Parser, name: str = "IMAGE", text: str = "the image") -> None:
    """Take a file name."""
    parser.add_argument(name.lower(), metavar=name, help=text)


def add_json(parser: Parser) -> None:
    """Take --json."""
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, and nothing else there")


def add_opening(parser: Parser) -> None:
    """Take the options of every command that opens an image."""
    group = parser.add_argument_group("opening")
    group.add_argument("--strict", action="store_true", help="refuse what is otherwise merely reported")
    group.add_argument(
        "--force-share",
        action="store_true",
        help="read although another process may be writing; the result is then not reliable",
    )


def add_writing(parser: Parser) -> None:
    """Take the options of every command that may write to an existing image."""
    group = parser.add_argument_group("writing")
    group.add_argument(
        "--no-lock",
        action="store_true",
        help="write although the file system cannot lock files; no other process may use the image then",
    )
    group.add_argument(
        "--ignore-change-tracking",
        action="store_true",
        help="write although Hyper-V tracks changes (X.rct, X.mrt); its next incremental backup is then wrong",
    )


def add_parents(parser: Parser) -> None:
    """Take the options of every command that opens a chain."""
    group = parser.add_argument_group("parents of a differencing image").add_mutually_exclusive_group()
    group.add_argument(
        "--parent",
        action="append",
        metavar="PATH",
        help="a parent; may be given several times, in any order (default: look beside the child)",
    )
    group.add_argument("--parent-root", metavar="DIR", help="look for parents anywhere below this directory")
    group.add_argument("--no-parents", action="store_true", help="open no parent")


def opening(options: argparse.Namespace, *, writable: bool = False) -> OpenOptions:
    """How to open what the command names, as the options of `add_opening` and, if there are, `add_parents` say.

    To write, those of `add_writing` are needed, too. Raises: UsageError for options that exclude each other.
    """
    from vhdx.disks.options import OpenOptions

    if writable and options.force_share:
        raise UsageError("--force-share is for reading: two writers would destroy the image")
    return OpenOptions(
        mode="r+" if writable else "r",
        parents=_parents(options) if "no_parents" in options else "same-dir",
        strict=options.strict,
        lock=not options.force_share,
        no_lock_ok=writable and options.no_lock,
        ignore_change_tracking=writable and options.ignore_change_tracking,
    )


def _parents(options: argparse.Namespace) -> ParentPolicy:
    if options.no_parents:
        return "none"
    if options.parent_root is not None:
        from vhdx.disks.options import ParentRoot

        return ParentRoot(options.parent_root)
    if options.parent:
        return list(options.parent)
    return "same-dir"


def add_format(parser: Parser, flag: str = "-f", of: str = "the image") -> None:
    """Take the format of a disk that is read."""
    parser.add_argument(
        flag,
        dest="format" if flag == "-f" else "second_format",
        choices=tuple(FORMATS),
        help=f"format of {of} (default: what its content says)",
    )


def add_geometry(parser: Parser) -> None:
    """Take the sizes of a new image."""
    group = parser.add_argument_group("new VHDX")
    group.add_argument("--fixed", action="store_true", help="give every block its space at once")
    group.add_argument(
        "--block-size", type=parse_size, metavar="N", help="a power of two from 1M to 256M (default 32M)"
    )
    group.add_argument(
        "--sector-size", type=parse_size, choices=SECTOR_SIZES, help="logical sector size in bytes"
    )
    group.add_argument(
        "--physical-sector-size", type=parse_size, choices=SECTOR_SIZES, help="what the guest is told"
    )


def add_force(parser: Parser) -> None:
    """Take --force."""
    parser.add_argument(
        "--force", action="store_true", help="replace what already exists, or write to a block device"
    )


def add_progress(parser: Parser) -> None:
    """Take -p."""
    parser.add_argument(
        "-p",
        "--progress",
        action="store_true",
        help="show the progress on stderr even if that is no terminal",
    )


def refuse_geometry_of_raw(options: argparse.Namespace) -> None:
    """Refuse the options of `add_geometry` where a raw file is made. Raises: UsageError."""
    given = {
        "--fixed": options.fixed,
        "--block-size": options.block_size,
        "--sector-size": options.sector_size,
        "--physical-sector-size": options.physical_sector_size,
    }
    meaningless = [flag for flag, value in given.items() if value]
    if meaningless:
        raise UsageError(
            f"{', '.join(meaningless)}: a raw disk has no such thing; leave it out, or use -O vhdx"
        )
