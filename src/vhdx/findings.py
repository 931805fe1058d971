"""One breach of a rule, as it travels from where it is found to a list, an exception or a line of output."""

from dataclasses import dataclass

from vhdx.rules import RuleCode, Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach of a rule, found in one place."""

    code: RuleCode
    structure: str
    """What breaks the rule, such as "header 1"."""
    file_offset: int | None = None
    """Bytes from the start of the file, or None where no single place is to blame."""
    found: str = ""
    expected: str = ""
    hint: str = ""
    """Said in place of the rule's general consequence."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.code.severity

    @property
    def problem(self) -> str:
        """What is wrong with the image, in plain words."""
        return self.code.problem

    @property
    def rule(self) -> str:
        """The rule, as a sentence."""
        return self.code.sentence

    @property
    def consequence(self) -> str:
        """What it means for the data, and what to do."""
        return self.hint or self.code.consequence

    @property
    def message(self) -> str:
        """Everything but the severity, as one line: what is wrong, the rule, what it means and what to do."""
        where = "" if self.file_offset is None else f" at file offset {self.file_offset:#x}"
        found = f", found {self.found}" if self.found else ""
        expected = f", expected {self.expected}" if self.expected else ""
        rule = f"(rule: {self.rule} [{self.code.value}])"
        return f"{self.structure}{where}: {self.problem}{found}{expected} {rule}; {self.consequence}"

    def __str__(self) -> str:
        return f"{self.severity.value}: {self.message}"
