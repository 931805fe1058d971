"""The table has 137 cases for VHDX; every one must have a test that names it."""

import re
from pathlib import Path

CASES = range(1, 138)


def test_every_case_of_the_table_has_a_test() -> None:
    texts = [path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py")]
    numbers = r"(?:\b(?:Case|EntryWound)\(\s*|case_0*|^\s+\()(\d+)\b"
    named = {int(number) for text in texts for number in re.findall(numbers, text, re.MULTILINE)}
    named |= {int(n) for text in texts for n in re.findall(r"case_0*(\d+)_", text)}
    assert set(CASES) - named == set()
