"""Break the write engine in every way that matters, one at a time, and see whether the crash kit notices.

    python crash/barrier_mutants.py                     # all of them
    python crash/barrier_mutants.py --only commit.py    # those whose name contains a text
    python crash/barrier_mutants.py --no-rules          # by crash states alone, without the record's rules

Each mutant runs in a process of its own, on a copy of the package; the first is the engine as it is, in which
nothing must be found. Exit status 1 if that is not so, or if a mutant that is not known to be harmless survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import vhdx
from vhdx.testing.barrier_mutants import Mutant, discover, replaced
from vhdx.testing.crash_hunt import HuntBudget, hunt
from vhdx.testing.crash_run import CrashTally
from vhdx.testing.engine_mutants import HARMLESS, NAMED

KILLED, SURVIVED = 3, 0
UNCHANGED = "the engine as it is"


def hunt_here(options: argparse.Namespace) -> int:
    """Look for something wrong with the package that this process has imported: a little of all, then more."""
    if not Path(vhdx.__file__).is_relative_to(options.hunt):
        raise SystemExit(f"{vhdx.__file__} is not the mutant's")
    states = 0
    for part in (8, 1):
        budget = HuntBudget(
            options.states // part,
            options.schedules // part,
            per_point=options.per_point,
            rules=options.rules,
            seed=options.seed,
        )
        tally = CrashTally()
        found = hunt(budget, tally)
        states += tally.distinct
        if found is not None:
            print(found)
            return KILLED
    print(f"nothing found in {states} states")
    return SURVIVED


def try_mutant(mutant: Mutant, package: Path, options: argparse.Namespace) -> tuple[bool, str]:
    """Run a hunt on a copy of the package with one module replaced; (killed, what was found)."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "vhdx"
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "engine" / mutant.module).write_text(mutant.source, encoding="utf-8")
        command = [
            sys.executable,
            str(Path(__file__).resolve()),
            "--hunt",
            folder,
            "--seed",
            str(options.seed),
        ]
        command += ["--states", str(options.states), "--schedules", str(options.schedules)]
        command += ["--per-point", str(options.per_point)] + ([] if options.rules else ["--no-rules"])
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=options.timeout, check=False
            )
        except subprocess.TimeoutExpired:
            return False, f"no end within {options.timeout} s"
    if done.returncode in (KILLED, SURVIVED):
        return done.returncode == KILLED, done.stdout.strip()
    return True, (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    parser.add_argument("--list", action="store_true", help="list them and stop")
    parser.add_argument("--states", type=int, default=6000)
    parser.add_argument("--schedules", type=int, default=120)
    parser.add_argument("--per-point", type=int, default=6)
    parser.add_argument("--no-rules", dest="rules", action="store_false")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--timeout", type=float, default=3600, help="seconds after which a mutant has survived"
    )
    parser.add_argument("--hunt", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hunt:
        return hunt_here(options)
    package = Path(vhdx.__file__).parent
    engine = package / "engine"
    unchanged = Mutant(UNCHANGED, "commit.py", (engine / "commit.py").read_text(encoding="utf-8"))
    mutants = [unchanged, *discover(engine), *replaced(engine, NAMED)]
    chosen = [mutant for mutant in mutants if mutant is unchanged or options.only in mutant.name]
    if options.list:
        print("\n".join(mutant.name for mutant in chosen))
        return 0
    return report(chosen, package, options)


def report(mutants: list[Mutant], package: Path, options: argparse.Namespace) -> int:
    """Try mutants and say what became of each."""
    started = time.monotonic()
    survivors: list[str] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        results = pool.map(partial(try_mutant, package=package, options=options), mutants)
        for mutant, (killed, found) in zip(mutants, results, strict=True):
            lines = found.splitlines() or [""]
            print(
                f"{'killed  ' if killed else 'SURVIVED'} {mutant.name}\n           {lines[0][:200]}",
                flush=True,
            )
            if mutant.name == UNCHANGED and killed:
                return 1
            if not killed and mutant.name != UNCHANGED:
                survivors.append(mutant.name)
    unknown = [name for name in survivors if name not in HARMLESS]
    print(f"{len(mutants) - len(survivors) - 1} killed, {len(survivors)} survived, of which")
    print(f"{len(survivors) - len(unknown)} are known to be harmless; {time.monotonic() - started:.0f} s")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
