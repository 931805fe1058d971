"""Run every benchmark of this folder, one after the other, each in its own process.

`--smoke` runs tiny versions, to see that they work; their figures mean nothing. A benchmark whose peer is not
installed is skipped; with VHDX_FORBID_SKIPS=1 that counts as failed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _pair import SKIPPED

_HERE = Path(__file__).parent


def main() -> int:
    """Run them all; the exit code is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--smoke", action="store_true", help="tiny versions")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    options = (
        ["--rounds", "1", "--scale", "0.004"] if arguments.smoke else ["--rounds", str(arguments.rounds)]
    )
    outcomes: dict[int, list[str]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for script in sorted(_HERE.glob("[!_]*.py")):
            if script.name == Path(__file__).name:
                continue
            print(f"\n--- {script.name} {' '.join(options)}", flush=True)
            done = subprocess.run([sys.executable, str(script), str(folder), *options], check=False)
            outcomes.setdefault(done.returncode, []).append(script.name)
    outcomes.pop(0, None)
    skipped = outcomes.pop(SKIPPED, [])
    failed = [name for names in outcomes.values() for name in names]
    if skipped:
        print(f"\nskipped: {', '.join(skipped)}")
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return 1 if failed or (skipped and os.environ.get("VHDX_FORBID_SKIPS")) else 0


if __name__ == "__main__":
    sys.exit(main())
