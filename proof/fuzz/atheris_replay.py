"""Coverage-guided fuzzing of log entries: python -m proof.fuzz.atheris_replay [libFuzzer options] [corpus].

Needs atheris (pip install atheris), which is no dependency of the project. `-len_control=0 -max_len=4096` lets
it start with inputs that change many fields at once.
"""

import sys

import atheris

with atheris.instrument_imports(
    include=["vhdx.engine", "vhdx.format", "vhdx.disks.image", "vhdx.disks.layered_device", "vhdx.ops"]
):
    import vhdx.ops.check
    import vhdx.ops.info  # noqa: F401 - imported here to be instrumented

from proof.fuzz.embedding import examine_bytes
from vhdx.testing.hostile import BASE_NAMES

DIRTY = [name for name in BASE_NAMES if name.startswith("dirty")]


def test_one_input(data: bytes) -> None:
    """Examine one image."""
    examine_bytes(data, DIRTY, "log entry")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
