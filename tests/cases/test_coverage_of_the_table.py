"""The table has 137 cases for VHDX; every one must have a test that names it."""

import re
from pathlib import Path

CASES = range(1, 138)
NAMES = re.compile(
    r"""\b(?:Case|EntryWound)\(\s*(\d+),   # rows of a table
    |   case_0*(\d+)                       # names and ids of tests
    |   ^\s+\((\d{3}),\ "                  # rows that are made for more than one key
    """,
    re.VERBOSE | re.MULTILINE,
)


def test_every_case_of_the_table_has_a_test() -> None:
    texts = [path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    named = {int(number) for text in texts for found in NAMES.findall(text) for number in found if number}
    assert set(CASES) - named == set()
