"""What opening for writing costs: a small table is judged without numpy, and by the same rules."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import vhdx
from support.units import GIB, MIB, TIB
from vhdx.engine.block_rules import BlockRules
from vhdx.engine.scan import table
from vhdx.engine.scan.table import judge_table
from vhdx.engine.table_summary import TableSummary
from vhdx.findings import Finding
from vhdx.format.bat import PayloadState
from vhdx.ops.create import create
from vhdx.storage.memory import MemoryStore
from vhdx.testing import ImageBuilder

WRITING = """
import sys, vhdx
with vhdx.open(sys.argv[1], "r+") as disk:
    disk.pwrite(b"n" * 4096, 5 << 20, fua=True)
    disk.write_zeroes(1 << 20, 5 << 20)
    disk.trim(1 << 20, 9 << 20)
    list(disk.extents())
print("numpy" in sys.modules)
"""


@pytest.mark.parametrize("kind", ["dynamic", "fixed", "child"])
def test_writing_to_a_small_image_does_without_numpy(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "disk.vhdx"
    if kind == "child":
        create(tmp_path / "parent.vhdx", 16 * GIB)
        create(path, parent=tmp_path / "parent.vhdx")
    elif kind == "fixed":
        create(path, 64 * MIB, kind="fixed")
    else:
        create(path, 64 * GIB, block_size=32 * MIB)
    command = [sys.executable, "-c", WRITING, str(path)]
    # This very library, not one that may be installed.
    environment = {**os.environ, "PYTHONPATH": str(Path(vhdx.__file__).parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    assert done.stdout == "False\n"


def scanned(store: MemoryStore) -> tuple[list[Finding], TableSummary]:
    """What a scan says of an image's table."""
    with vhdx.Image.open(store) as image:
        findings: list[Finding] = []
        summary = judge_table(image.bat, image.opened.block_rules, findings.append)
        return findings, summary


def random_image(chance: random.Random) -> ImageBuilder:
    """An image with blocks in any order, gaps, soft anchors and bitmaps; sometimes something is wrong."""
    block_size = chance.choice((MIB, 2 * MIB, 8 * MIB))
    size = chance.randrange(1, 40) * MIB + chance.choice((0, 512))
    if chance.random() < 0.4:
        parent = ImageBuilder(size, name="parent")
        image = ImageBuilder.child_of(parent, block_size=block_size)
    else:
        image = ImageBuilder(size, block_size)
    states = [state for state in PayloadState if state is not PayloadState.RESERVED_4]
    blocks = list(range(image.geometry.block_count))
    chance.shuffle(blocks)
    for block in blocks:
        state = chance.choice(states)
        has_space = state >= PayloadState.FULLY_PRESENT or chance.random() < 0.3
        if state is PayloadState.PARTIALLY_PRESENT and not image.geometry.has_parent:
            state = PayloadState.FULLY_PRESENT
        if state is PayloadState.PARTIALLY_PRESENT:
            image.add_partial_block(block, {0: b"s"})
        elif has_space and state not in (PayloadState.NOT_PRESENT, PayloadState.ZERO):
            image.add_block(block, b"", state=state)
        else:
            image.set_block(block, state)
        if chance.random() < 0.3:
            image.allocate(chance.randrange(1, 4) * MIB)
    if chance.random() < 0.4:
        index = chance.randrange(image.geometry.entry_count)
        image.bat[index] = chance.choice(
            (1, 3, 4, 6, 7, 3 << 20 | 6, 5 << 20 | 7, 1 << 50 | 6, 0x18, 9 << 20 | 2)
        )
    return image


def test_glance_at_a_small_table_says_what_the_whole_scan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = 0
    for seed in range(100):
        store = random_image(random.Random(seed)).build_store()
        monkeypatch.setattr(table, "NUMPY_THRESHOLD_BLOCKS", 0)
        findings, whole = scanned(store)
        monkeypatch.undo()
        found, glance = scanned(store)
        assert found == findings
        assert glance.owned == whole.owned
        assert glance.blocks_end == whole.blocks_end
        assert list(glance.free) == list(whole.free)
        plain += not findings
    assert 15 < plain < 90


def test_large_table_is_not_judged_entry_by_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    image = ImageBuilder(TIB)
    for block in range(100):
        image.add_block(block, b"")
    judged: list[int] = []
    original = BlockRules.payload_findings

    def counted(rules: BlockRules, block: int, entry: int) -> object:
        judged.append(block)
        return original(rules, block, entry)

    monkeypatch.setattr(BlockRules, "payload_findings", counted)
    findings, _ = scanned(image.build_store())
    assert not findings
    assert not judged
