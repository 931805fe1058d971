"""The command itself: finds the verb, runs it, and turns what may go wrong into one line and an exit code.

Only the chosen verb's module is imported, and that only what it needs: the start-up is most of the time that
`vhdx info` takes.
"""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn

from vhdx._version import __version__
from vhdx.cli.options import Parser, UsageError, did_you_mean
from vhdx.cli.output import complain, describe_os_error, flush_output
from vhdx.cli.streams import forget_output, open_closed_streams
from vhdx.errors import VhdxError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

COMMANDS: Final = {
    "probe": "tell whether files are VHDX images",
    "info": "show sizes, identities and state of an image",
    "check": "look for damage in an image",
    "map": "list which parts of a disk hold data, and where",
    "dump": "show every on-disk structure, even of a damaged image",
    "measure": "tell how much space a disk would take as a new VHDX",
    "convert": "copy a disk into a new raw or VHDX file",
    "compare": "tell whether two disks have the same content",
    "create": "make a new, empty image",
    "serve": "serve disks over the network block device protocol",
    "mount": "show a disk and its partitions as files in a directory",
    "unmount": "take such a directory's files away, and wait for the image to be closed",
}
"""Every verb and what it is for; the module of the same name implements it."""

ALIASES: Final = {"umount": "unmount"}
"""Other names of verbs."""

EXIT_FAILURE: Final = 1
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit code.

    Whatever an image or a user can cause ends as one line on stderr.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    # 'compare' has exit code 1 for disks that differ, so its failures need another one.
    failure = 2 if arguments[:1] == ["compare"] else EXIT_FAILURE
    try:
        code = _run(arguments)
        flush_output()
    except KeyboardInterrupt:
        complain("interrupted")
        return EXIT_INTERRUPTED
    except Terminated as stop:
        complain("terminated")
        return 128 + int(stop.args[0])
    except BrokenPipeError:
        return EXIT_BROKEN_PIPE
    except (VhdxError, UsageError) as error:
        complain(str(error))
        return failure
    except OSError as error:
        complain(describe_os_error(error))
        return failure
    return code


def _run(arguments: list[str]) -> int:
    try:
        options = _parse(arguments)
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    code: int = options.run(options)
    return code


def entry_point() -> NoReturn:
    """Be the console script: run the process's command line and leave with its exit code."""
    open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    code = main()
    try:
        flush_output()
    except OSError:
        # The error has been reported, or the reader has gone. The interpreter would flush stdout once more when it
        # ends, and print the error again.
        forget_output()
    sys.exit(code)


def _terminate(signal_number: int, _: object) -> NoReturn:
    """Leave as after an error, so that no half-written file stays behind."""
    raise Terminated(signal_number)


class Terminated(BaseException):
    """The process was asked to end."""


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Read a command line with the options of its verb. Raises: UsageError; SystemExit for --help and --version."""
    if not arguments:
        _top_parser().print_help()
        raise SystemExit(0)
    verb = ALIASES.get(arguments[0], arguments[0])
    if verb not in COMMANDS:
        _refuse_verb(verb)
        return _top_parser().parse_args(arguments)
    module = import_module(f"vhdx.cli.commands.{verb}")
    parser = Parser(prog=f"vhdx {verb}", description=module.__doc__)
    module.add_options(parser)
    # Options may stand anywhere, between two file names, too.
    options = parser.parse_intermixed_args(arguments[1:])
    options.run = module.run
    return options


def _refuse_verb(verb: str) -> None:
    """Raises: UsageError for what is neither a verb nor an option."""
    if not verb.startswith("-"):
        meant = did_you_mean(verb, [*COMMANDS, *ALIASES])
        raise UsageError(f"there is no command {verb!r}{meant}; see 'vhdx --help'")


def _top_parser() -> Parser:
    """What `vhdx --help` shows."""
    parser = Parser(
        prog="vhdx",
        description="Open, read, write, check, convert, compare, create, serve and mount VHDX virtual disks.",
        epilog="'vhdx COMMAND --help' tells more about a command.",
    )
    parser.add_argument(
        *("-V", "--version"),
        action="version",
        version=f"vhdx {__version__}",
        help="show the version and exit",
    )
    verbs: argparse._SubParsersAction[Parser] = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, prog="vhdx"
    )
    for name, summary in COMMANDS.items():
        verbs.add_parser(name, help=summary, add_help=False)
    return parser
