"""One dumped structure, and decoding that goes on past what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from vhdx.errors import FormatError
from vhdx.findings import Finding
from vhdx.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class Structure(NamedTuple):
    """One structure of a file. Offsets and lengths in bytes; names are those of the JSON output."""

    name: str
    file_offset: int
    length: int
    fields: dict[str, Any]
    """What it says: numbers, texts, truth values, or dictionaries of them."""
    entries: tuple[dict[str, Any], ...] = ()
    """Its parts, where it is a table."""
    findings: tuple[Finding, ...] = ()
    """The rules that it breaks."""
    error: str | None = None
    """Why it could not be read."""


def collect(decode: Callable[[Report], T]) -> tuple[T | None, tuple[Finding, ...]]:
    """Run a decoder up to the breach that it cannot get over; return its result and what was wrong."""
    report = Report()
    try:
        result = decode(report)
    except FormatError as error:
        return None, (*report.findings, error.finding)
    return result, tuple(report.findings)


def guard(name: str, file_offset: int, make: Callable[[], Iterator[Structure]]) -> Iterator[Structure]:
    """Pass structures on; if the file cannot be read there, say so in their place."""
    try:
        yield from make()
    except OSError as error:
        yield Structure(name, file_offset, 0, {}, error=error.strerror or str(error))
