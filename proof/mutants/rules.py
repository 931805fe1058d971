"""Switch every check of the library off, one at a time, and see whether a test notices.

    python -m proof.mutants.rules [--sample N] [--seed S] [--jobs J] [--list] [TEST_FOLDER ...]

A site is an `if`, or a conditional expression, one arm of which names a RuleCode directly (not in a nested
`if`), or calls a function that names one unconditionally. A mutant takes the other arm, always. The modules
of vhdx are imported once, with every site wrapped in a probe. One run of the tests finds out which tests get
to see which site decide for the arm in question; then, for every site, a forked child runs only those tests
with that one check switched off. If all of them pass, the mutant has survived.

Exit status: 0 if no mutant survives and every RuleCode has a site whose mutant is killed, else 1.
"""

import argparse
import ast
import builtins
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
DEFAULT_TESTS = ("tests/format", "tests/cases")
TIMEOUT_SECONDS = 120
NO_TESTS_COLLECTED = 5

WITHOUT_SITE = frozenset(("CHANGE_TRACKING",))
"""RuleCodes that are reported in a loop and without a condition, so that there is nothing to switch off."""


@dataclass(frozen=True)
class Site:
    """One condition that decides whether a rule is reported."""

    path: str
    line: int
    column: int
    forced: bool
    """What a mutant makes of the condition."""
    codes: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.path}:{self.line}:{self.column} = {self.forced} ({', '.join(self.codes)})"


# Finding sites


def named_codes(nodes: Iterable[ast.AST], reporters: dict[str, set[str]]) -> set[str]:
    """RuleCodes that statements or expressions name, not looking into nested `if`s and functions."""
    found: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If | ast.FunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "RuleCode"
        ):
            found.add(node.attr)
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            found |= reporters.get(called, set())
        pending += ast.iter_child_nodes(node)
    return found


def find_reporters(trees: Iterable[ast.Module]) -> dict[str, set[str]]:
    """Functions that name RuleCodes outside every `if`, with the codes."""
    reporters: dict[str, set[str]] = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                codes = named_codes(node.body, {})
                if codes:
                    reporters[node.name] = codes
    return reporters


class Instrument(ast.NodeTransformer):
    """Wraps the condition of every site in a call of the probe."""

    def __init__(self, path: str, reporters: dict[str, set[str]], sites: list[Site]) -> None:
        self.path = path
        self.reporters = reporters
        self.sites = sites

    def wrap(self, node: Any, body: list[ast.AST], orelse: list[ast.AST]) -> Any:
        for arm, forced in ((body, False), (orelse, True)):
            codes = named_codes(arm, self.reporters)
            if codes:
                name = tuple(sorted(codes))
                self.sites.append(Site(self.path, node.test.lineno, node.test.col_offset, forced, name))
                number = ast.Constant(len(self.sites) - 1)
                call = ast.Call(ast.Name("__rule_site__", ast.Load()), [number, node.test], [])
                node.test = ast.fix_missing_locations(ast.copy_location(call, node.test))
        return node

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        return self.wrap(node, list(node.body), list(node.orelse))

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        self.generic_visit(node)
        return self.wrap(node, [node.body], [node.orelse])


def instrument() -> tuple[dict[str, ast.Module], list[Site]]:
    """Every module's tree with its sites wrapped, by path, and the sites."""
    paths = sorted(path for path in SOURCE.glob("vhdx/**/*.py") if "testing" not in path.parts)
    trees = {str(path): ast.parse(path.read_bytes()) for path in paths}
    reporters = find_reporters(trees.values())
    sites: list[Site] = []
    for path, tree in trees.items():
        if not path.endswith(("vhdx/rules.py", "vhdx/findings.py", "vhdx/report.py")):
            Instrument(str(Path(path).relative_to(SOURCE)), reporters, sites).visit(tree)
    return trees, sites


# Running with probes


class Probe:
    """What every wrapped condition goes through."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self.forced = [site.forced for site in sites]
        self.active = -1
        self.test = ""
        self.seen: dict[int, set[str]] = defaultdict(set)

    def __call__(self, number: int, value: object) -> object:
        if number == self.active:
            return self.forced[number]
        if self.test and bool(value) is not self.forced[number]:
            self.seen[number].add(self.test)
        return value


class InstrumentedLoader(SourceFileLoader):
    """Loads a module from its instrumented tree, and never from a cache."""

    trees: dict[str, ast.Module]

    def get_code(self, fullname: str) -> CodeType | None:
        return compile(self.trees[self.path], self.path, "exec", dont_inherit=True)


class InstrumentedFinder(MetaPathFinder):
    """Gives the modules of vhdx the loader above."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: object = None
    ) -> ModuleSpec | None:
        if fullname.split(".", maxsplit=1)[0] != "vhdx":
            return None
        spec = PathFinder.find_spec(fullname, path if path is not None else [str(SOURCE)])
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            known = str(Path(spec.loader.path).resolve())
            if known in InstrumentedLoader.trees:
                spec.loader = InstrumentedLoader(fullname, known)
        return spec


class Plugin:
    """Tells the probe which test runs, and leaves out tests that were not selected."""

    def __init__(self, probe: Probe, selected: set[str] | None) -> None:
        self.probe = probe
        self.selected = selected

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self.selected is not None:
            items[:] = [item for item in items if item.nodeid in self.selected]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.probe.test = nodeid

    def pytest_runtest_logfinish(self) -> None:
        self.probe.test = ""


def run_tests(probe: Probe, targets: Sequence[str], selected: set[str] | None, quiet: bool) -> int:
    import pytest

    options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    with contextlib.ExitStack() as stack:
        if quiet:
            sink = stack.enter_context(Path(os.devnull).open("w"))
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
        return int(pytest.main([*options, *targets], plugins=[Plugin(probe, selected)]))


def fork(work: Callable[[], int]) -> int:
    """Do work in a child, which is killed when it takes too long; return its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            signal.alarm(TIMEOUT_SECONDS)
            status = work()
        finally:
            os._exit(status)
    return child


def baseline(probe: Probe, targets: Sequence[str]) -> dict[int, set[str]]:
    """Run everything once without a mutant; which tests saw each site decide for its arm."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as file:

        def work() -> int:
            signal.alarm(0)
            status = run_tests(probe, targets, None, quiet=False)
            seen = {number: sorted(tests) for number, tests in probe.seen.items()}
            Path(file.name).write_text(json.dumps(seen), "utf-8")
            return status

        _, status = os.waitpid(fork(work), 0)
        if status:
            sys.exit("the tests fail without any mutant; put that right first")
        return {int(number): set(tests) for number, tests in json.load(file).items()}


def survivors_among(
    numbers: Iterable[int], probe: Probe, seen: dict[int, set[str]], jobs: int
) -> Iterator[tuple[int, bool]]:
    """Run each mutant against the tests that saw its site; (site, whether it survived) as they finish."""
    running: dict[int, int] = {}

    def finish() -> tuple[int, bool]:
        child, status = os.wait()
        return running.pop(child), os.waitstatus_to_exitcode(status) in (0, NO_TESTS_COLLECTED)

    for number in numbers:
        tests = seen.get(number, set())
        if not tests:
            yield number, True
            continue

        def work(number: int = number, tests: set[str] = tests) -> int:
            probe.active = number
            return run_tests(probe, sorted({test.split("::")[0] for test in tests}), tests, quiet=True)

        if len(running) >= jobs:
            yield finish()
        running[fork(work)] = number
    while running:
        yield finish()


def prepare(trees: dict[str, ast.Module], probe: Probe) -> None:
    """Import the instrumented library, and what the tests need, before any child is made."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.chdir(ROOT)
    InstrumentedLoader.trees = trees
    sys.meta_path.insert(0, InstrumentedFinder())
    builtins.__rule_site__ = probe  # type: ignore[attr-defined]
    import pytest  # noqa: F401
    from hypothesis import settings

    import vhdx.testing.image.strategies  # noqa: F401

    settings.register_profile("mutants", database=None, derandomize=True, deadline=None, max_examples=30)
    settings.load_profile("mutants")


def report(sites: Sequence[Site], tried: dict[int, bool], seen: dict[int, set[str]]) -> int:
    """Print survivors and rules that nothing guards; return the exit status."""
    survivors = [number for number, survived in tried.items() if survived]
    for number in sorted(survivors):
        why = "no test reaches it" if not seen.get(number) else f"{len(seen[number])} tests pass"
        print(f"SURVIVED {sites[number].name}: {why}")
    from vhdx.rules import RuleCode

    with_site = {code for site in sites for code in site.codes}
    killed = {code for number, survived in tried.items() if not survived for code in sites[number].codes}
    without_site = {code.name for code in RuleCode} - with_site - WITHOUT_SITE
    unkilled = with_site - killed if len(tried) == len(sites) else set()
    for code in sorted(without_site):
        print(f"NO SITE  RuleCode.{code}")
    for code in sorted(unkilled):
        print(f"NO KILL  RuleCode.{code}")
    print(f"{len(tried)} of {len(sites)} mutants tried, {len(survivors)} survived")
    return 1 if survivors or without_site or unkilled else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("tests", nargs="*", default=DEFAULT_TESTS)
    parser.add_argument("--sample", type=int, metavar="N", help="try only N mutants")
    parser.add_argument("--seed", type=int, default=0, help="which N (default 0)")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--list", action="store_true", help="list the sites and stop")
    options = parser.parse_args()
    trees, sites = instrument()
    if options.list:
        print(*(site.name for site in sites), sep="\n")
        return 0
    probe = Probe(sites)
    prepare(trees, probe)
    seen = baseline(probe, options.tests)
    numbers = list(range(len(sites)))
    if options.sample is not None and options.sample < len(numbers):
        numbers = sorted(random.Random(options.seed).sample(numbers, options.sample))
    tried: dict[int, bool] = {}
    for number, survived in survivors_among(numbers, probe, seen, options.jobs):
        tried[number] = survived
        if sys.stdout.isatty():
            print(f"{len(tried)}/{len(numbers)}", end="\r")
    return report(sites, tried, seen)


if __name__ == "__main__":
    sys.exit(main())
