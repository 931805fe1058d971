"""Mistakes in the commit: what is frozen, logged and applied when, and which flushes it serves."""

from collections.abc import Callable, Mapping
from typing import Final
from weakref import WeakKeyDictionary

from proof.mutants.named.pages import without_first_of_more, without_last, without_second_of_more
from proof.mutants.wrong import Named, Wrong
from vhdx.disks.layered_device import LayeredDevice
from vhdx.engine.session.commit import Committer, Frozen

MUTANTS: Final = Named()
mutant: Final = MUTANTS.add


def _other_pages(
    engine: Wrong,
    right: Callable[[Committer, Frozen], None],
    other: Callable[[Committer, Mapping[int, bytes]], Mapping[int, bytes]],
) -> None:
    """Do a step of a commit with other pages than those that are frozen."""
    engine.replace(right, lambda self, frozen: right(self, frozen._replace(pages=other(self, frozen.pages))))


@mutant(Committer, "the last page is not applied")
def _(engine: Wrong) -> None:
    _other_pages(engine, Committer._apply, lambda _, pages: without_last(pages))


@mutant(Committer, "the first page is not applied when there are more")
def _(engine: Wrong) -> None:
    _other_pages(engine, Committer._apply, lambda _, pages: without_first_of_more(pages))


@mutant(Committer, "a page between two others is not applied")
def _(engine: Wrong) -> None:
    _other_pages(engine, Committer._apply, lambda _, pages: without_second_of_more(pages))


def _live(committer: Committer, pages: Mapping[int, bytes]) -> dict[int, bytes]:
    """Pages as they are now, in place of frozen ones."""
    return {number: bytes(committer._pages.page(number)) for number in pages}


@mutant(Committer, "the live page is logged")
def _(engine: Wrong) -> None:
    _other_pages(engine, Committer._log, _live)


@mutant(Committer, "the live page is applied")
def _(engine: Wrong) -> None:
    _other_pages(engine, Committer._apply, _live)


@mutant(Committer, "frozen after the flush")
def _(engine: Wrong) -> None:
    flush = Committer._make_payload_durable
    pages: WeakKeyDictionary[Committer, dict[int, bytes]] = WeakKeyDictionary()

    def freeze(self: Committer) -> Frozen:
        self._allocator.freeze()
        pages[self] = {}
        used_end = self._allocator.used_end
        return Frozen(pages[self], self._allocator.file_size, used_end)

    def make_payload_durable(self: Committer) -> None:
        flush(self)
        pages[self].update(self._pages.freeze())

    engine.replace(Committer._freeze, freeze)
    engine.replace(flush, make_payload_durable)


@mutant(Committer, "the end of the structures is read before the freeze")
def _(engine: Wrong) -> None:
    right = Committer._freeze

    def freeze(self: Committer) -> Frozen:
        used_end = self._allocator.used_end
        return right(self)._replace(used_end=used_end)

    engine.replace(right, freeze)


@mutant(Committer, "the length is the store's, growth that has not returned included")
def _(engine: Wrong) -> None:
    right = Committer._freeze
    engine.replace(right, lambda self: right(self)._replace(file_size=self._store.size()))


@mutant(Committer, "the length is read after the flush")
def _(engine: Wrong) -> None:
    right = Committer._log

    def log(self: Committer, frozen: Frozen) -> None:
        right(self, frozen._replace(file_size=self._allocator.file_size))

    engine.replace(right, log)


@mutant(Committer, "pages stand in place before their entry is written")
def _(engine: Wrong) -> None:
    right = Committer._log

    def log(self: Committer, frozen: Frozen) -> None:
        self._apply(frozen)
        right(self, frozen)

    engine.replace(right, log)


@mutant(Committer, "only every other flush commits")
def _(engine: Wrong) -> None:
    right = Committer.flush

    def flush(self: Committer) -> None:
        if self._requested and self._served >= self._requested:
            self._requested += 1
        else:
            right(self)

    engine.replace(right, flush)


@mutant(LayeredDevice, "force unit access does not flush")
def _(engine: Wrong) -> None:
    engine.replace(LayeredDevice._after_change, lambda self, writer, *, fua: None)


@mutant(Committer, "a flush that failed is tried once more")
def _(engine: Wrong) -> None:
    right = Committer._make_payload_durable

    def make_payload_durable(self: Committer) -> None:
        try:
            right(self)
        except OSError:
            right(self)

    engine.replace(right, make_payload_durable)
