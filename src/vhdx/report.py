"""Breaches of rules, collected or raised: the one way in which parsing code says that something is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from vhdx.errors import refusal
from vhdx.findings import Finding
from vhdx.rules import OTHER_COPY, OnOpen, RuleCode


class Breach(Protocol):
    """How parsing code reports that a rule is broken: `Report.breach`.

    Raises: FormatError (the subclass that fits) if the image is to be refused for it.
    """

    def __call__(
        self,
        code: RuleCode,
        structure: str,
        file_offset: int | None = None,
        *,
        found: str = "",
        expected: str = "",
        hint: str = "",
    ) -> None:
        """The arguments are the fields of a `Finding`."""


@dataclass(slots=True)
class Report:
    """Decides what a breach leads to: an exception, or a line in `findings`.

    `strict` turns tolerated breaches of rules marked STRICT into exceptions. `image` is put into messages.
    At most `limit` findings are kept for one rule, so that a hostile file cannot fill the memory.
    """

    image: str | None = None
    strict: bool = False
    limit: int = 64
    findings: list[Finding] = field(default_factory=list)

    def breach(
        self,
        code: RuleCode,
        structure: str,
        file_offset: int | None = None,
        *,
        found: str = "",
        expected: str = "",
        hint: str = "",
    ) -> None:
        """Make a finding and judge it: see `Breach`."""
        self.judge(Finding(code, structure, file_offset, found, expected, hint))

    def judge(self, finding: Finding) -> None:
        """Keep a finding that is tolerated.

        Raises: FormatError (the subclass that fits) if opening refuses an image for it.
        """
        on_open = finding.code.on_open
        if on_open is OnOpen.TOLERATE or (on_open is OnOpen.STRICT and not self.strict):
            self.note(finding)
        else:
            raise refusal(finding, self.image)

    def note(self, finding: Finding) -> None:
        """Add a finding without judging it."""
        if sum(1 for known in self.findings if known.code is finding.code) < self.limit:
            self.findings.append(finding)

    @contextmanager
    def of_two_copies(self) -> Iterator["Report"]:
        """A report for two copies of one structure, each of which breaks one rule or none.

        What is tolerated is kept back until the context ends: only then is it known whether the other copy is good.
        """
        kept = Report(self.image, self.strict, self.limit)
        is_one_good = False
        try:
            yield kept
            is_one_good = len(kept.findings) < 2
        finally:
            for finding in kept.findings:
                self.judge(replace(finding, hint=OTHER_COPY) if is_one_good else finding)
