"""Rules, findings and the errors that carry them."""

import pickle

import pytest

from support.units import MIB
from vhdx._text import counted, quoted, quoted_all, spelled
from vhdx.errors import CorruptImageError, FormatError, NotVhdxError, UnsupportedFeatureError, refusal
from vhdx.findings import Finding
from vhdx.format.constants import HEADER_FILE_OFFSETS, REGION_TABLE_FILE_OFFSETS
from vhdx.ops.check import check
from vhdx.report import Report
from vhdx.rules import RuleCode, Severity
from vhdx.testing import ImageBuilder

TRUNCATED = Finding(RuleCode.FILE_TRUNCATED, "file", 0x1000, "1 byte", ">= 2 bytes", "ask somebody")


def test_every_rule_says_what_is_wrong_what_the_format_demands_and_what_it_means() -> None:
    for rule in RuleCode:
        assert rule.problem
        assert rule.sentence
        assert rule.consequence


def test_rule_is_found_by_the_name_that_json_prints() -> None:
    assert RuleCode("file-truncated") is RuleCode.FILE_TRUNCATED
    assert RuleCode.FILE_TRUNCATED.value == "file-truncated"
    for rule in RuleCode:
        assert rule.value == rule.name.lower().replace("_", "-")
        assert pickle.loads(pickle.dumps(rule)) is rule


def test_finding_tells_what_is_wrong_first_and_then_the_rule_and_what_to_do_in_one_line() -> None:
    assert str(TRUNCATED) == (
        "error: file at file offset 0x1000: the file is too short to be a VHDX, found 1 byte, expected >= 2 bytes"
        " (rule: a VHDX is at least 1 MiB long [file-truncated]); ask somebody"
    )
    assert TRUNCATED.severity is Severity.ERROR
    assert Finding(RuleCode.FILE_TRUNCATED, "file").consequence == RuleCode.FILE_TRUNCATED.consequence


def test_error_can_be_pickled_with_everything_it_tells() -> None:
    error = pickle.loads(pickle.dumps(refusal(TRUNCATED, "disk.vhdx")))
    assert type(error) is CorruptImageError
    assert error.finding == TRUNCATED
    assert (error.code, error.structure, error.file_offset) == (RuleCode.FILE_TRUNCATED, "file", 0x1000)
    assert (error.found, error.expected, error.hint) == ("1 byte", ">= 2 bytes", "ask somebody")
    assert error.image == "disk.vhdx"
    assert str(error) == f"disk.vhdx: {TRUNCATED.message}"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (RuleCode.FILE_SIGNATURE, NotVhdxError),
        (RuleCode.HEADER_VERSION, UnsupportedFeatureError),
        (RuleCode.HEADER_NONE_VALID, CorruptImageError),
    ],
)
def test_rule_decides_which_exception_refuses_the_image(code: RuleCode, kind: type[FormatError]) -> None:
    with pytest.raises(kind) as caught:
        Report("disk.vhdx").judge(Finding(code, "file"))
    assert type(caught.value) is kind
    assert str(caught.value).startswith("disk.vhdx: ")


def test_strict_report_refuses_what_another_only_keeps() -> None:
    finding = Finding(RuleCode.BAT_RESERVED_BITS, "BAT entry 0")
    report = Report()
    report.judge(finding)
    assert report.findings == [finding]
    with pytest.raises(CorruptImageError):
        Report(strict=True).judge(finding)
    noted = Finding(RuleCode.LOG_DIRTY, "log")
    strict = Report(strict=True)
    strict.judge(noted)
    assert strict.findings == [noted]


def test_report_keeps_a_limited_number_of_findings_of_one_rule() -> None:
    report = Report(limit=2)
    for block in range(5):
        report.judge(Finding(RuleCode.BAT_UNUSED_OFFSET, f"BAT entry {block}"))
    report.judge(Finding(RuleCode.LOG_DIRTY, "log"))
    assert [finding.structure for finding in report.findings] == ["BAT entry 0", "BAT entry 1", "log"]


def test_no_rule_is_stated_as_if_it_were_what_is_wrong() -> None:
    for rule in RuleCode:
        assert rule.problem != rule.sentence
        assert "b'" not in rule.problem + rule.sentence + rule.consequence


@pytest.mark.parametrize("structure", ["header", "region table"])
@pytest.mark.parametrize("damaged", [(0,), (1,), (0, 1)])
def test_a_damaged_copy_is_harmless_only_if_the_other_one_is_good(
    structure: str, damaged: tuple[int, ...]
) -> None:
    image = ImageBuilder(4 * MIB)
    store = image.build_store()
    first = {"header": HEADER_FILE_OFFSETS, "region table": REGION_TABLE_FILE_OFFSETS}[structure]
    for index in damaged:
        store.pwrite(b"\xff", first[index] + 100)
    said = [
        finding.consequence for finding in check(store).findings() if finding.structure.startswith(structure)
    ]
    assert any("other copy is good" in consequence for consequence in said) is (len(damaged) == 1)


def test_texts_of_a_hostile_file_are_shortened_and_their_backslashes_not_doubled() -> None:
    assert quoted("C:\\disks\\base.vhdx") == "'C:\\disks\\base.vhdx'"
    assert len(quoted("x" * 10**6)) < 200
    assert len(quoted_all(["x" * 1000] * 1000)) < 2000
    assert (spelled(b"head"), spelled(b"\0\1"), spelled(b"")) == ("'head'", "bytes 00 01", "nothing")
    assert (counted(1, "entry", "entries"), counted(2, "entry", "entries")) == ("1 entry", "2 entries")


def test_damage_of_one_copy_is_kept_when_the_other_one_is_refused() -> None:
    report = Report()
    with pytest.raises(CorruptImageError), report.of_two_copies() as copies:
        copies.judge(Finding(RuleCode.REGION_TABLE_CHECKSUM, "region table 1"))
        copies.judge(Finding(RuleCode.REGION_COUNT, "region table 2"))
    (finding,) = report.findings
    assert (finding.structure, finding.consequence) == ("region table 1", "this copy is not used")
