"""The command itself: finds the verb, runs it, and turns what may go wrong into one line and an exit code.

Only the chosen verb's module is imported, and that only what it needs: the start-up is most of the time that
`vhdx info` takes.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn

from vhdx._version import __version__
from vhdx.cli.options import Parser, UsageError
from vhdx.cli.output import complain, describe_os_error, flush_output
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
        options = _parser(arguments).parse_args(arguments)
        code: int = options.run(options)
        flush_output()
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
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


def entry_point() -> NoReturn:
    """Be the console script: run the process's command line and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)  # a stream is None where it was closed
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    code = main()
    try:
        flush_output()
    except OSError:
        # The error has been reported, or the reader has gone. The interpreter would flush stdout once more when it
        # ends, and print the error again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _terminate(signal_number: int, _: object) -> NoReturn:
    """Leave as after an error, so that no half-written file stays behind."""
    raise Terminated(signal_number)


class Terminated(BaseException):
    """The process was asked to end."""


def _parser(arguments: list[str]) -> Parser:
    """Make the parser, with the options of the verb that is asked for."""
    parser = Parser(
        prog="vhdx",
        description="Open, read, write, check, convert, compare, create, serve and mount VHDX virtual disks.",
        epilog="'vhdx COMMAND --help' tells more about a command.",
    )
    parser.add_argument(
        "--version", action="version", version=f"vhdx {__version__}", help="show the version and exit"
    )
    verbs: argparse._SubParsersAction[Parser] = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, prog="vhdx"
    )
    for name, summary in COMMANDS.items():
        if arguments[:1] != [name]:
            verbs.add_parser(name, help=summary, add_help=False)
            continue
        module = import_module(f"vhdx.cli.commands.{name}")
        verb = verbs.add_parser(name, help=summary, description=module.__doc__)
        module.add_options(verb)
        verb.set_defaults(run=module.run)
    return parser
