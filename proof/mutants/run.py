"""Break the write engine in every way that matters, one at a time, and see whether the crash kit notices.

    python -m proof.mutants.run                     # all of them
    python -m proof.mutants.run --only commit.py    # those whose name contains a text
    python -m proof.mutants.run --no-rules          # by crash states alone, without the record's rules
    python -m proof.mutants.run --doubt             # those that are known to be harmless as long as the others

Each mutant runs in a process of its own, on a copy of the package; the first is the engine as it is, in which
nothing must be found. Exit status 1 if that is not so, if a process ends in any other way, or if a mutant that is not
known to be harmless survives.
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
from proof.crash.hunt import HuntBudget, hunt
from proof.mutants.named import HARMLESS, NAMED
from proof.mutants.steps import Mutant, discover, replaced
from vhdx.testing.crash import CrashTally

KILLED, SURVIVED, BROKEN = "killed", "SURVIVED", "BROKEN"
KILLED_STATUS, SURVIVED_STATUS = 3, 0
UNCHANGED = "the engine as it is"
ROOT = Path(__file__).resolve().parents[2]


def hunt_here(options: argparse.Namespace) -> int:
    """Look for something wrong with the package that this process has imported: a little of all, then more."""
    if not Path(vhdx.__file__).is_relative_to(options.hunt):
        raise SystemExit(f"{vhdx.__file__} is not the mutant's")
    states = 0
    for part in (10,) if options.brief else (10, 1):
        budget = HuntBudget(
            options.states // part,
            options.schedules // part,
            per_point=options.per_point,
            rules=options.rules,
            is_brief=part > 1,
            seed=options.seed,
        )
        tally = CrashTally()
        found = hunt(budget, tally)
        states += tally.distinct
        if found is not None:
            print(found)
            return KILLED_STATUS
    print(f"nothing found in {states} states, those of a first look counted again")
    return SURVIVED_STATUS


def try_mutant(mutant: Mutant, package: Path, options: argparse.Namespace) -> tuple[str, str]:
    """Run a hunt on a copy of the package with one module replaced; what became of it, and what was found."""
    is_brief = options.brief or (mutant.name in HARMLESS and not options.doubt)
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "vhdx"
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "engine" / mutant.module).write_text(mutant.source, encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "proof.mutants.run",
            "--hunt",
            folder,
            "--seed",
            str(options.seed),
        ]
        command += ["--states", str(options.states), "--schedules", str(options.schedules)]
        command += ["--per-point", str(options.per_point)]
        command += ([] if options.rules else ["--no-rules"]) + (["--brief"] if is_brief else [])
        environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=options.timeout, check=False
            )
        except subprocess.TimeoutExpired:
            return SURVIVED, f"no end within {options.timeout} s"
    if done.returncode in (KILLED_STATUS, SURVIVED_STATUS):
        return KILLED if done.returncode == KILLED_STATUS else SURVIVED, done.stdout.strip()
    return BROKEN, f"exit status {done.returncode}: {(done.stderr or done.stdout).strip()[-200:]}"


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", help="mutants whose name contains this (repeatable)")
    parser.add_argument("--list", action="store_true", help="list them and stop")
    parser.add_argument("--states", type=int, default=6000)
    parser.add_argument("--schedules", type=int, default=120)
    parser.add_argument("--per-point", type=int, default=6)
    parser.add_argument("--no-rules", dest="rules", action="store_false")
    parser.add_argument("--brief", action="store_true", help="a tenth of it, for a first look")
    parser.add_argument(
        "--doubt", action="store_true", help="all of it for those that are known to be harmless, too"
    )
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
    as_it_is = Mutant(
        UNCHANGED, "session/commit.py", (engine / "session/commit.py").read_text(encoding="utf-8")
    )
    mutants = [*discover(engine), *replaced(engine, NAMED)]
    chosen = [mutant for mutant in mutants if any(text in mutant.name for text in options.only or [""])]
    if options.list:
        print("\n".join(mutant.name for mutant in chosen))
        return 0
    return report([as_it_is, *chosen], package, options)


def report(mutants: list[Mutant], package: Path, options: argparse.Namespace) -> int:
    """Try mutants and say what became of each; the first is the engine as it is."""
    started = time.monotonic()
    names: dict[str, list[str]] = {KILLED: [], SURVIVED: [], BROKEN: []}
    with ThreadPoolExecutor(options.jobs) as pool:
        results = pool.map(partial(try_mutant, package=package, options=options), mutants)
        for mutant, (outcome, found) in zip(mutants, results, strict=True):
            lines = found.splitlines() or [""]
            print(f"{outcome:8} {mutant.name}\n           {lines[0][:200]}", flush=True)
            if mutant.name != UNCHANGED:
                names[outcome].append(mutant.name)
            elif outcome != SURVIVED:
                pool.shutdown(wait=False, cancel_futures=True)
                return 1
    unknown = [name for name in names[SURVIVED] if name not in HARMLESS]
    print(f"{len(names[KILLED])} killed, {len(names[SURVIVED])} survived, {len(names[BROKEN])} broken;")
    print(f"{len(names[SURVIVED]) - len(unknown)} of the survivors are known to be harmless")
    for name in unknown:
        print(f"not known to be harmless: {name}")
    for name in sorted(HARMLESS.keys() & set(names[KILLED])):
        print(f"not so harmless: {name}")
    print(f"{time.monotonic() - started:.0f} s")
    return 1 if unknown or names[BROKEN] else 0


if __name__ == "__main__":
    sys.exit(main())
