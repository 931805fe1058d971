"""Run every benchmark of this folder, one after the other, each in its own process.

`--smoke` runs tiny versions, to see that they work; their figures mean nothing.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

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
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for script in sorted(_HERE.glob("[!_]*.py")):
            if script.name == Path(__file__).name:
                continue
            print(f"\n--- {script.name} {' '.join(options)}", flush=True)
            if subprocess.run([sys.executable, str(script), str(folder), *options], check=False).returncode:
                failed.append(script.name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
