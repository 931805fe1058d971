"""Asking a piece of format code which rules it finds broken."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from vhdx.errors import FormatError
from vhdx.report import Report
from vhdx.rules import RuleCode


def tolerated(check: Callable[[Report], Any]) -> list[RuleCode]:
    """Rules that are found broken and tolerated; the check must not raise."""
    report = Report()
    check(report)
    return [finding.code for finding in report.findings]


def refused(check: Callable[[Report], Any], *, strict: bool = False) -> FormatError:
    """The error with which a check refuses."""
    with pytest.raises(FormatError) as caught:
        check(Report(strict=strict))
    return caught.value


def assert_refused(check: Callable[[Report], Any], code: RuleCode, names: Sequence[str] = ()) -> None:
    """The check refuses with this rule, and the message names all of `names`."""
    error = refused(check)
    assert error.code is code
    for name in names:
        assert name in str(error)


def assert_strict(check: Callable[[Report], Any], code: RuleCode) -> None:
    """The check lists this rule as broken, and refuses with it when strict."""
    assert code in tolerated(check)
    assert refused(check, strict=True).code is code
