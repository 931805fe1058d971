"""Coverage-guided fuzzing of every structure: python fuzz/atheris_open.py [libFuzzer options, corpus].

Needs atheris (pip install atheris), which is no dependency of the project.
"""

import sys

import atheris

with atheris.instrument_imports(include=["vhdx"]):
    from embedding import examine_bytes

    from vhdx.testing.mutation_bases import BASE_NAMES


def test_one_input(data: bytes) -> None:
    """Examine one image."""
    examine_bytes(data, BASE_NAMES, "")


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
