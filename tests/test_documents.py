"""What the documents name exists: files of the repository, and the pages and sections that a link leads to."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
NAMES = {
    f"/{path.relative_to(ROOT).as_posix()}"
    for folder in ("src", "tests", "proof", "benchmarks", "examples", "docs", ".ci")
    for path in (ROOT / folder, *(ROOT / folder).rglob("*"))
}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@each_page
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    named = set(re.findall(r"`((?:[\w.]+/)*\w+\.py)\b", text)) | set(
        re.findall(r"`((?:tests|proof)/[\w/.]*)`", text)
    )
    missing = {name for name in named if not any(known.endswith(f"/{name.rstrip('/')}") for known in NAMES)}
    assert missing == set()


@each_page
def test_links_lead_to_a_page_and_a_section(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        name, _, section = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        assert not section or section in sections_of(linked), target


def sections_of(page: Path) -> set[str]:
    """The sections of a page, as links spell them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
