"""Sound images with one wound each, and the outcomes that the format's table of odd inputs knows.

Every wound is a function on the description of an otherwise sound image. Images are opened through a store
that fails the test on any attempt to write, and that counts what is read.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pytest

from support.units import MIB
from vhdx import Image
from vhdx.engine.scan.table import scan_table
from vhdx.errors import CorruptImageError, FormatError
from vhdx.findings import Finding
from vhdx.format.bat import PayloadState
from vhdx.ops.check import check
from vhdx.rules import RuleCode
from vhdx.testing import CountingStore, ImageBuilder, ReferenceDisk

Wound = Callable[[ImageBuilder], object]

MAX_OPEN_READ = 16 * MIB
"""No small image may cost more to open, whatever its fields say."""


@dataclass(frozen=True)
class Case:
    """One row of the table, or a variant of it."""

    number: int
    name: str
    wound: Wound
    code: RuleCode | None = None
    """The rule that is broken; None where nothing is worth a finding."""
    names: tuple[str, ...] = ()
    """What the message must name: structure and file offset, mostly."""
    error: type[FormatError] = CorruptImageError

    @property
    def id(self) -> str:
        """Name of the test."""
        return f"case_{self.number:03}_{self.name.replace(' ', '_')}"


def each(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Run a test with each case."""
    listed = list(cases)
    return pytest.mark.parametrize("case", listed, ids=[case.id for case in listed])


def pattern(seed: int, length: int = 4096) -> bytes:
    """Bytes that differ from sector to sector and from seed to seed."""
    return b"".join(bytes([seed, sector & 0xFF]) * 256 for sector in range(length // 512))


def sound() -> ImageBuilder:
    """A dynamic image of 4.5 MiB with 1 MiB blocks, of which some have content."""
    image = ImageBuilder(4 * MIB + MIB // 2)
    image.add_block(0, pattern(1, MIB))
    image.add_block(3, pattern(2))
    image.set_block(2, PayloadState.ZERO)
    image.add_block(4, pattern(3))
    return image


def sound_child() -> tuple[ImageBuilder, ImageBuilder]:
    """A child with a partially present block, and its parent."""
    parent = sound()
    parent.name = "parent"
    child = ImageBuilder.child_of(parent, name="child")
    child.add_partial_block(0, {1: b"\xc1" * 512, 2: b"\xc2" * 512, 9: b"\xc9" * 512})
    child.add_block(1, pattern(7))
    child.set_block(3, PayloadState.UNMAPPED)
    return child, parent


def content_of(*images: ImageBuilder) -> bytes:
    """What a chain reads as, leaf first, as the reference reader has it."""
    disk = ReferenceDisk([image.build_store() for image in images])
    return disk.read(0, disk.size)


def store_of(image: ImageBuilder) -> CountingStore:
    """The image as a store that cannot be written and counts."""
    return CountingStore(image.build_store())


def codes(findings: Sequence[Finding]) -> list[RuleCode]:
    """The rules that findings are about."""
    return [finding.code for finding in findings]


def block_codes(image: Image) -> list[RuleCode]:
    """The rules that the whole BAT breaks."""
    return codes(list(scan_table(image.bat, image.opened.block_rules)))


def check_codes(image: ImageBuilder) -> list[RuleCode]:
    """The rules that `check` finds broken."""
    return codes(list(check(store_of(image)).findings()))


def assert_refused(image: ImageBuilder, case: Case, *, strict: bool = False) -> None:
    """Opening fails with the case's rule, and says where."""
    assert case.code is not None
    store = store_of(image)
    with pytest.raises(FormatError) as caught:
        Image.open(store, strict=strict)
    assert caught.value.code is case.code
    assert type(caught.value) is case.error
    for name in case.names:
        assert name in str(caught.value)
    assert store.work.bytes_read <= MAX_OPEN_READ
    if case.error is CorruptImageError:
        assert case.code in check_codes(image)
    else:
        with pytest.raises(case.error):
            check_codes(image)


def assert_opens(
    image: ImageBuilder, expected: bytes, code: RuleCode | None, *, strict: bool = False
) -> None:
    """Opening succeeds, every byte is right, and exactly one rule (or none) is found broken."""
    store = store_of(image)
    with Image.open(store, strict=strict) as opened:
        assert store.work.bytes_read <= MAX_OPEN_READ
        assert opened.pread(opened.size, 0) == expected
        assert codes(opened.findings) == ([] if code is None else [code])
        assert_extents_tell_the_truth(opened, expected)
    assert code is None or code in check_codes(image)


def assert_extents_tell_the_truth(opened: Image, expected: bytes) -> None:
    """Extents cover the disk in order, and what they call zero is zero."""
    position = 0
    for extent in opened.extents():
        assert extent.offset == position
        position += extent.length
        if extent.zero:
            assert not any(expected[extent.offset : position])
    assert position == opened.size


def assert_strict_only(image: ImageBuilder, expected: bytes, case: Case) -> None:
    """Opening tolerates the breach with a finding, and refuses it when strict."""
    assert_opens(image, expected, case.code)
    assert_refused(image, case, strict=True)


def assert_block_refused(
    image: ImageBuilder, block: int, code: RuleCode, names: Sequence[str], intact: Iterable[int] = ()
) -> None:
    """The image opens, reading the block fails, other blocks are right; strict does not open."""
    size = image.geometry.block_size
    store = store_of(image)
    reference = ReferenceDisk([image.build_store()])
    with Image.open(store) as opened:
        for attempt in (
            lambda: opened.pread(512, block * size),
            lambda: opened.pread(512, block * size),
            lambda: list(opened.extents(block * size, 512)),
        ):
            with pytest.raises(CorruptImageError) as caught:
                attempt()
            assert caught.value.code is code
            for name in names:
                assert name in str(caught.value)
        for other in intact:
            assert opened.pread(4096, other * size) == reference.read(other * size, 4096)
        assert code in block_codes(opened)
    with pytest.raises(CorruptImageError) as caught:
        Image.open(store_of(image), strict=True)
    assert caught.value.code is code
