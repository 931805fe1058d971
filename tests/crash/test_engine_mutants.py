"""The wrong versions of the engine can be made, each under a name of its own (proof/mutants/run.py runs them)."""

import ast
from collections import Counter
from pathlib import Path

import vhdx.engine
from proof.mutants.named import HARMLESS, NAMED
from proof.mutants.steps import discover, replaced

ENGINE = Path(vhdx.engine.__file__).parent
MUTANTS = [*discover(ENGINE), *replaced(ENGINE, NAMED)]


def test_every_mutant_is_a_module_that_differs_from_the_engines() -> None:
    for mutant in MUTANTS:
        ast.parse(mutant.source)
        assert mutant.source != (ENGINE / mutant.module).read_text(encoding="utf-8"), mutant.name


def test_no_two_mutants_have_one_name() -> None:
    assert [name for name, count in Counter(mutant.name for mutant in MUTANTS).items() if count > 1] == []


def test_every_mutant_that_is_called_harmless_exists() -> None:
    assert HARMLESS.keys() <= {mutant.name for mutant in MUTANTS}


def test_every_flush_of_a_commit_is_taken_out_and_moved() -> None:
    names = {mutant.name for mutant in MUTANTS}
    assert "commit.py _commit: no `self._store.flush()`" in names
    assert "commit.py _write_entry: no `self._store.flush()`" in names
    assert "commit.py finish: `self._log.end()` before `self._store.flush()`" in names
