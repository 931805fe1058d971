"""Kill a server in the middle of its clients' writes, again and again: nothing that was flushed is lost.

    python -m proof.crash.kill_server FOLDER --rounds 50

Exit status 1 at the first sector that holds what it must not.
"""

import argparse
import shutil
from pathlib import Path

from proof.crash.killing import kill_rounds
from proof.crash.killing_server import serve_and_kill


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dirty = kill_rounds(
        options.folder,
        options.rounds,
        seed=options.seed,
        with_qemu=shutil.which("qemu-img") is not None,
        attack=serve_and_kill,
    )
    print(f"{options.rounds} rounds, {dirty} left a dirty log; nothing that was flushed was lost")


if __name__ == "__main__":
    main()
