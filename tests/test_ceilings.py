"""The ceilings of modules, functions and constructors are held by a program that notices what exceeds them."""

from pathlib import Path

from proof.ceilings import CONSTRUCTOR_PARAMETERS, FUNCTION_LINES, MODULE_LINES, breaches, module_breaches


def found(source: str) -> list[str]:
    return [breach.where for breach in module_breaches(source, "some.py")]


def function(lines: int, *, name: str = "long") -> str:
    """A function of so many lines of code, among others that do not count."""
    body = [
        f"def {name}():",
        '    """Says something.',
        "",
        '    And more."""',
        "    # a comment",
        "",
        *["    pass"] * (lines - 1),
    ]
    return "\n".join(body) + "\n"


def constructor(parameters: str) -> str:
    return f"class Thing:\n    def __init__(self, {parameters}):\n        pass\n"


def test_module_with_more_lines_than_allowed_is_a_breach() -> None:
    assert found("x = 1\n" * MODULE_LINES) == []
    assert found("x = 1\n" * (MODULE_LINES + 1)) == ["some.py"]


def test_function_with_more_lines_of_code_than_allowed_is_a_breach() -> None:
    assert found(function(FUNCTION_LINES)) == []
    assert found(function(FUNCTION_LINES + 1)) == ["some.py:long"]


def test_function_is_named_with_what_it_stands_in() -> None:
    inner = "".join(f"    {line}\n" for line in function(FUNCTION_LINES + 1).splitlines())
    assert found("class Thing:\n" + inner) == ["some.py:Thing.long"]
    assert found("if True:\n" + inner) == ["some.py:long"]
    assert found("def outer():\n" + inner) == ["some.py:outer", "some.py:outer.long"]


def test_constructor_with_more_parameters_than_allowed_is_a_breach() -> None:
    names = [f"p{number}" for number in range(CONSTRUCTOR_PARAMETERS)]
    assert found(constructor(", ".join(names))) == []
    assert found(constructor(", ".join([*names, "one_more"]))) == ["some.py:Thing.__init__"]
    assert found(constructor(", ".join([*names[:-1], "*", "keyword=1", "another=2"]))) == [
        "some.py:Thing.__init__"
    ]
    assert found(constructor(", ".join([*names, "**others"]))) == ["some.py:Thing.__init__"]


def test_exception_covers_a_breach_and_is_a_breach_itself_once_it_is_not_needed(tmp_path: Path) -> None:
    folder = tmp_path / "proof"
    folder.mkdir()
    (folder / "long.py").write_text("x = 1\n" * (MODULE_LINES + 1))
    assert [breach.where for breach in breaches(tmp_path, {})] == ["proof/long.py"]
    reason = {"proof/long.py": "a table"}
    assert list(breaches(tmp_path, reason)) == []
    (folder / "long.py").write_text("x = 1\n")
    assert [breach.where for breach in breaches(tmp_path, reason)] == ["proof/long.py"]
