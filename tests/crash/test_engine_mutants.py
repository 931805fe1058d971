"""The wrong versions of the engine can be made, each under a name of its own; the quickest are hunted here.

`python -m proof.mutants.run` hunts all of them.
"""

import ast
import os
import subprocess
import sys
from collections import Counter

import pytest

from proof.mutants.catalogue import HARMLESS, all_mutants
from proof.mutants.steps import OPERATORS, Example, Operator, make_mistake, places
from proof.mutants.wrong import Wrong
from vhdx.engine import log_replay
from vhdx.engine.session.header_writer import HeaderWriter
from vhdx.engine.session.log_writer import LogWriter
from vhdx.format import log

MUTANTS = all_mutants()
QUICKLY_FOUND = (
    "log_writer.py: the last page is not logged",
    "header_writer.py: the current header is overwritten",
    "session.py: the last sector is not replayed",
    "tables.py: old bits are not cleared",
    "allocator.py: freed space is free at once",
)
can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants are hunted in forked processes")


def body_of(text: str) -> ast.FunctionDef:
    function = ast.parse(f"def f():\n    {text.replace(chr(10), chr(10) + '    ')}").body[0]
    assert isinstance(function, ast.FunctionDef)
    return function


@pytest.mark.parametrize(
    ("operator", "example"), [(operator, example) for operator in OPERATORS for example in operator.examples]
)
def test_an_operator_makes_the_mistakes_of_its_examples(operator: Operator, example: Example) -> None:
    made = []
    for place, _ in places(operator, body_of(example.right)):
        function = body_of(example.right)
        make_mistake(operator, function, place)
        made.append(ast.unparse(function))
    assert made == [ast.unparse(body_of(wrong)) for wrong in example.wrong]


def test_every_mutant_can_be_made() -> None:
    for mutant in MUTANTS:
        library = Wrong()
        try:
            mutant.make(library)
            assert library.replaced, mutant.name
        finally:
            library.undo()


def test_every_function_is_back_in_its_place_after_a_mutant() -> None:
    def contents() -> list[object]:
        return [(name, value, getattr(value, "__code__", None)) for name, value in vars(LogWriter).items()]

    right = contents()
    for mutant in MUTANTS:
        with mutant.made():
            is_of_log = mutant.name.startswith("log_writer.py")
            assert (contents() != right) == is_of_log, mutant.name
    assert contents() == right


def test_a_plain_function_is_replaced_wherever_it_is_imported() -> None:
    library, right = Wrong(), log.header_fault
    library.replace(log.header_fault, lambda sector, log_guid, log_length: None)
    assert vars(log)["header_fault"] is vars(log_replay)["header_fault"] is not right
    library.undo()
    assert vars(log)["header_fault"] is vars(log_replay)["header_fault"] is right


def test_a_function_that_does_not_stand_under_its_name_cannot_be_replaced() -> None:
    library = Wrong()
    right = HeaderWriter.update
    library.replace(right, lambda self, **changes: None)
    try:
        with pytest.raises(AttributeError, match=r"HeaderWriter\.update"):
            Wrong().replace(right, lambda self, **changes: None)
    finally:
        library.undo()


def test_no_two_mutants_have_one_name() -> None:
    assert [name for name, count in Counter(mutant.name for mutant in MUTANTS).items() if count > 1] == []


def test_every_mutant_that_is_called_harmless_exists() -> None:
    assert HARMLESS.keys() <= {mutant.name for mutant in MUTANTS}


def test_every_flush_of_a_commit_is_taken_out_and_moved() -> None:
    names = {mutant.name for mutant in MUTANTS}
    for flush in ("_make_payload_durable", "_make_entry_durable"):
        assert f"commit.py _commit: no `self.{flush}()`" in names
        assert f"commit.py {flush}: no `self._store.flush()`" in names
    assert "commit.py _commit: `self._make_entry_durable()` before `self._log(frozen)`" in names
    assert "commit.py finish: `self._log_writer.end()` before `self._store.flush()`" in names


@can_fork
def test_mutants_are_found_and_the_engine_as_it_is_is_not() -> None:
    command = [sys.executable, "-m", "proof.mutants.run", "--brief", "--no-rules"]
    command += ["--states", "300", "--schedules", "10"]
    for name in QUICKLY_FOUND:
        command += ["--only", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(QUICKLY_FOUND)} killed, 0 survived, 0 broken" in done.stdout


IN_CHILDREN = """
import os, time
from proof.mutants.forks import in_children

def work(item):
    if item == "dies":
        os._exit(7)
    if item == "fails":
        raise ValueError(item)
    if item == "waits":
        time.sleep(60)
    return item.upper()

items = ["works", "dies", "fails", "waits", "works too"]
for item, result in sorted(in_children(work, items, jobs=2, timeout=2)):
    print(item, repr(result))
"""


@can_fork
def test_of_every_child_the_result_is_told_or_how_it_ended() -> None:
    # In a process of its own, which has one thread.
    done = subprocess.run([sys.executable, "-c", IN_CHILDREN], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "dies ChildProcessError('exit status 7')",
        "fails ChildProcessError('ValueError: fails')",
        "waits TimeoutError('no end in time')",
        "works 'WORKS'",
        "works too 'WORKS TOO'",
    ]
