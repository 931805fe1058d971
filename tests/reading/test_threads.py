"""Many threads on one disk."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vhdx
from vhdx.testing.hostile import BASE_NAMES, base_image, copy_store

THREADS, READS = 8, 60
NAMES = [name for name in BASE_NAMES if name != "large-blocks"]


@pytest.mark.parametrize("name", NAMES)
def test_threads_that_read_one_disk_all_get_its_content(name: str) -> None:
    base = base_image(name)
    with vhdx.open(base.stores[0], parents=base.stores[1:]) as disk:
        whole = vhdx.open(base.stores[0], parents=base.stores[1:]).pread(disk.size, 0)
        start = threading.Barrier(THREADS)

        def work(number: int) -> int:
            chance = random.Random(number)
            start.wait()
            for _ in range(READS):
                offset = chance.randrange(disk.size)
                length = min(chance.choice((1, 512, 5000, 200_000)), disk.size - offset)
                if disk.pread(length, offset) != whole[offset : offset + length]:
                    return 1
                if chance.random() < 0.1:
                    zero = [(extent.offset, extent.end) for extent in disk.extents() if extent.zero]
                    if any(any(whole[at:end]) for at, end in zero):
                        return 1
            return 0

        with ThreadPoolExecutor(THREADS) as pool:
            assert sum(pool.map(work, range(THREADS))) == 0


def test_threads_that_read_one_file_all_get_its_content(tmp_path: Path) -> None:
    store = copy_store(base_image("dirty-chain").stores[1])
    content = bytearray(store.size())
    store.pread_into(content, 0)
    path = tmp_path / "disk.vhdx"
    path.write_bytes(content)
    with vhdx.open(path) as disk:
        whole = disk.pread(disk.size, 0)

        def work(number: int) -> bool:
            chance = random.Random(number)
            return all(
                disk.pread(1000, offset) == whole[offset : offset + 1000]
                for offset in (chance.randrange(disk.size - 1000) for _ in range(300))
            )

        with ThreadPoolExecutor(THREADS) as pool:
            assert all(pool.map(work, range(THREADS)))
