"""Pages of one commit, some of them left out."""

from collections.abc import Mapping


def without_last(pages: Mapping[int, bytes]) -> dict[int, bytes]:
    """All but the last page."""
    return dict(list(pages.items())[:-1])


def without_first_of_more(pages: Mapping[int, bytes]) -> dict[int, bytes]:
    """All but the first page; one page alone stays."""
    return dict(list(pages.items())[len(pages) > 1 :])


def without_second_of_more(pages: Mapping[int, bytes]) -> dict[int, bytes]:
    """All but the second page, if there are three of them or more."""
    items = list(pages.items())
    return dict(items if len(items) < 3 else items[:1] + items[2:])
