"""The oracle notices what no operation had a hand in."""

import pytest

from proof.crash.bases import BASES
from vhdx.disks.image import Image
from vhdx.format.bat import PayloadState
from vhdx.testing.crash import History, Oracle, RecordingStore, Violation


@pytest.mark.parametrize(
    ("name", "block"), [("dynamic", 0), ("fixed", 1), ("child", 0), ("child", 1), ("long-table", 511)]
)
def test_block_that_nobody_wrote_to_and_that_is_lost_is_found(name: str, block: int) -> None:
    base = BASES[name]()
    with Image.open(RecordingStore(base.content)) as image:
        geometry, table = image.opened.geometry, image.opened.regions.bat
    content = base.content.copy()
    entry = int(PayloadState.ZERO).to_bytes(8, "little")
    content.write(entry, table.file_offset + geometry.entry_of_block(block) * 8)
    examined = Oracle(base.subject, base.shape).examine(content, History(base.disk))
    assert isinstance(examined, Violation)
    assert examined.kind == "wrong content"
