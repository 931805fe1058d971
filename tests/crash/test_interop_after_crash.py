"""After a crash qemu-img replays our log, finds the file sound, and reads from it what we read.

QEMU 7.2 extends a file at replay only if LastFileOffset is no multiple of 1 MiB, and cannot read logs that wrap;
neither comes into play, because growth is durable before the entry that needs it and our log never wraps.
"""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

import vhdx
from proof.crash.bases import BASES
from proof.crash.campaign import BRIEF, brief_workloads
from proof.crash.workloads import record
from vhdx.testing.crash import Content, CrashEnumerator, CrashState, RecordingStore, some_points
from vhdx.testing.crash.pages import PAGE_SIZE

pytestmark = pytest.mark.interop

STATES = 30


@pytest.fixture
def qemu_img() -> str:
    found = shutil.which("qemu-img")
    if found is None:
        pytest.skip("qemu-img is not installed (Debian: qemu-utils)")
    return found


def sample(name: str, count: int) -> list[CrashState]:
    """States from different workloads, most of them with a log to replay."""
    base = BASES[name]()
    rng = random.Random(name)
    found: list[CrashState] = []
    workloads = brief_workloads(base, 3)
    while len(found) < count:
        store, _ = record(next(workloads))
        points = some_points(store.steps, 12)
        states = list(CrashEnumerator(store.start, store.steps, limits=BRIEF, points=points))
        dirty = [state for state in states if base.subject.replay_effect(state.content()).is_dirty]
        found += rng.sample(dirty, min(3, len(dirty))) + rng.sample(states, 1)
    return found[:count]


def save(content: Content, path: Path) -> None:
    with path.open("wb") as file:
        for number, page in content.pages.items():
            file.seek(number * PAGE_SIZE)
            file.write(page)
        file.truncate(content.size)


def run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("name", ["dynamic", "fixed", "dynamic-32m"])
def test_qemu_replays_and_reads_what_we_read(name: str, qemu_img: str, tmp_path: Path) -> None:
    for index, state in enumerate(sample(name, STATES)):
        content = state.content()
        path, raw = tmp_path / f"{index}.vhdx", tmp_path / f"{index}.raw"
        save(content, path)
        run(qemu_img, "check", "-q", "-f", "vhdx", "-r", "all", path)
        run(qemu_img, "convert", "-f", "vhdx", "-O", "raw", path, raw)
        with vhdx.open(RecordingStore(content)) as disk, raw.open("rb") as file:
            for offset in range(0, disk.size, 1 << 20):
                length = min(1 << 20, disk.size - offset)
                assert os.pread(file.fileno(), length, offset) == disk.pread(length, offset), str(state)
        path.unlink()
        raw.unlink()
