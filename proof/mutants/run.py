"""Break the write engine in every way that matters, one at a time, and see whether the crash kit notices.

    python -m proof.mutants.run                     # all of them
    python -m proof.mutants.run --only commit.py    # those whose name contains a text
    python -m proof.mutants.run --no-rules          # by crash states alone, without the record's rules
    python -m proof.mutants.run --doubt             # those that are known to be harmless as long as the others

Each mutant is made and hunted in a forked process of its own; the first is the engine as it is, in which nothing must
be found. Exit status 1 if that is not so, if a process ends in any other way, or if a mutant that is not known to be
harmless survives.

The hunt for a mutant begins with the check that found it another time (clues.json; `--remember` writes that). If this
check finds nothing, or with `--no-clues`, the whole of the hunt follows: a survivor has been through all of it.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from proof.crash.hunt import Clue, HuntBudget, follow, hunt
from proof.mutants.catalogue import HARMLESS, all_mutants
from proof.mutants.forks import in_children
from proof.mutants.wrong import Mutant
from vhdx.testing.crash import CrashTally

KILLED, SURVIVED, BROKEN = "killed", "SURVIVED", "BROKEN"
AS_IT_IS: Final = Mutant("the engine as it is", lambda _: None)
CLUES: Final = Path(__file__).with_name("clues.json")


class Verdict(NamedTuple):
    """What became of a mutant, and what was found."""

    outcome: str
    text: str
    clue: Clue | None = None


def try_mutant(mutant: Mutant, options: argparse.Namespace, clues: Mapping[str, Clue]) -> Verdict:
    """Look for something wrong with a mutant: where it was found before, a little of all, then more."""
    is_brief = options.brief or (mutant.name in HARMLESS and not options.doubt)
    clue, states = clues.get(mutant.name), 0
    with mutant.made():
        found = follow(clue, _budget(options, 1), CrashTally()) if clue is not None else None
        for part in (10,) if is_brief else (10, 1):
            if found is None:
                tally = CrashTally()
                found = hunt(_budget(options, part), tally)
                states += tally.distinct
    if found is None:
        return Verdict(SURVIVED, f"nothing found in {states} states, those of a first look counted again")
    return Verdict(KILLED, found.what, found.clue)


def _budget(options: argparse.Namespace, part: int) -> HuntBudget:
    return HuntBudget(
        options.states // part,
        options.schedules // part,
        per_point=options.per_point,
        rules=options.rules,
        is_brief=part > 1,
        seed=options.seed,
    )


def verdicts(
    mutants: list[Mutant], options: argparse.Namespace, clues: Mapping[str, Clue]
) -> Iterator[tuple[Mutant, Verdict]]:
    """Try mutants, each in a process of its own, in the order in which they end."""
    work = partial(try_mutant, options=options, clues=clues)
    for mutant, result in in_children(work, mutants, jobs=options.jobs, timeout=options.timeout):
        match result:
            case Verdict():
                yield mutant, result
            case TimeoutError():
                yield mutant, Verdict(SURVIVED, f"no end within {options.timeout} s")
            case _:
                yield mutant, Verdict(BROKEN, str(result))


def report(mutants: list[Mutant], options: argparse.Namespace) -> int:
    """Try mutants and say what became of each; the first is the engine as it is."""
    started = time.monotonic()
    clues = read_clues()
    names: dict[str, list[str]] = {KILLED: [], SURVIVED: [], BROKEN: []}
    for mutant, verdict in verdicts(mutants, options, dict(clues) if options.clues else {}):
        print(f"{verdict.outcome:8} {mutant.name}\n{'':11}{verdict.text.splitlines()[0][:200]}", flush=True)
        if mutant is not AS_IT_IS:
            names[verdict.outcome].append(mutant.name)
        elif verdict.outcome != SURVIVED:
            return 1
        if options.remember and verdict.clue is not None:
            clues[mutant.name] = verdict.clue
            write_clues(clues)
    status = summarise(names)
    print(f"{time.monotonic() - started:.0f} s")
    return status


def summarise(names: Mapping[str, list[str]]) -> int:
    """Say how many mutants had which outcome, and which of them should have had another; the exit status."""
    unknown = sorted(set(names[SURVIVED]) - HARMLESS.keys())
    print(f"{len(names[KILLED])} killed, {len(names[SURVIVED])} survived, {len(names[BROKEN])} broken;")
    print(f"{len(names[SURVIVED]) - len(unknown)} of the survivors are known to be harmless")
    for name in unknown:
        print(f"not known to be harmless: {name}")
    for name in sorted(HARMLESS.keys() & set(names[KILLED])):
        print(f"not so harmless: {name}")
    return 1 if unknown or names[BROKEN] else 0


def read_clues() -> dict[str, Clue]:
    """By the names of mutants, some of which may not exist any more."""
    return {name: Clue(*clue) for name, clue in json.loads(CLUES.read_text(encoding="utf-8")).items()}


def write_clues(clues: Mapping[str, Clue]) -> None:
    """Write down those of mutants that exist, a line each."""
    names = {mutant.name for mutant in all_mutants()}
    lines = [
        f"{json.dumps(name)}: {json.dumps(clue)}" for name, clue in sorted(clues.items()) if name in names
    ]
    CLUES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


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
    parser.add_argument("--no-clues", dest="clues", action="store_false", help="hunt in the usual order")
    parser.add_argument("--remember", action="store_true", help="write down which checks found them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--timeout", type=float, default=3600, help="seconds after which a mutant has survived"
    )
    options = parser.parse_args()
    chosen = [mutant for mutant in all_mutants() if any(text in mutant.name for text in options.only or [""])]
    if options.list:
        print("\n".join(mutant.name for mutant in chosen))
        return 0
    return report([AS_IT_IS, *chosen], options)


if __name__ == "__main__":
    sys.exit(main())
