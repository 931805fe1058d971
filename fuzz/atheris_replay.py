"""Coverage-guided fuzzing of log entries of dirty images: python fuzz/atheris_replay.py [libFuzzer options, corpus].

Needs atheris (pip install atheris), which is no dependency of the project.
"""

import sys

import atheris

with atheris.instrument_imports(include=["vhdx"]):
    from embedding import examine_bytes

    from vhdx.testing.mutation_bases import BASE_NAMES

DIRTY = [name for name in BASE_NAMES if name.startswith("dirty")]

def test_one_input(data: bytes) -> None:
    """Examine one image."""
    examine_bytes(data, DIRTY, "log entry")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
