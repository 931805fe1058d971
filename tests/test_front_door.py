"""The package's front door: what is promised is there, documented as it is, and loaded only when it is used."""

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest

import vhdx
import vhdx.testing

DOCS = Path(__file__).parents[1] / "docs"
API = (DOCS / "api.md").read_text("utf-8")
SIGNATURES: list[str] = re.findall(r"^(vhdx\.[\w.]+\([^)]*\)) ->", API, re.MULTILINE)
PAGES = [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]


def test_every_promised_name_is_there() -> None:
    for name in vhdx.__all__:
        assert getattr(vhdx, name) is not None


def test_dir_shows_the_public_names_and_nothing_else() -> None:
    assert dir(vhdx) == sorted(["__version__", *vhdx.__all__])


def test_star_import_gives_exactly_what_is_promised() -> None:
    names: dict[str, object] = {}
    exec("from vhdx import *", names)
    assert set(vhdx.__all__) == names.keys() - {"__builtins__"}


def test_type_checkers_are_shown_the_same_objects_as_programs_get() -> None:
    source = inspect.getsource(vhdx)
    seen: dict[str, object] = {"__name__": "vhdx"}
    with mock.patch.object(typing, "TYPE_CHECKING", True):
        exec(source, seen)
    imported = re.findall(r"^    from \S+ import \w+ as (\w+)$|^    (\w+) = \w+$", source, re.MULTILINE)
    assert {first or second for first, second in imported} == set(vhdx.__all__)
    for name in vhdx.__all__:
        assert seen[name] is getattr(vhdx, name), name


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(vhdx, "no_such_name")


def test_importing_the_package_loads_nothing_but_its_version() -> None:
    program = "import sys, vhdx; print([name for name in sys.modules if name.startswith('vhdx.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['vhdx._version']"


def test_help_lists_every_public_name() -> None:
    program = "import vhdx; help(vhdx)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for name in vhdx.__all__:
        assert re.search(rf"\b{name}\b", done.stdout), name


# docs/api.md


def test_every_name_in_the_documentation_exists() -> None:
    for page in PAGES:
        for dotted in set(re.findall(r"\bvhdx\.(\w+(?:\.\w+)*)", code_of(page.read_text("utf-8")))):
            assert resolve(dotted) is not None, f"vhdx.{dotted} in {page.name}"


def test_every_public_name_is_documented() -> None:
    documented = set(re.findall(r"\bvhdx\.(\w+)", API))
    assert set(vhdx.__all__) - documented == set()


def test_examples_import_public_modules_only() -> None:
    for page in PAGES:
        for module in re.findall(r"(?:from|import) (vhdx[\w.]*)", page.read_text("utf-8")):
            assert module == "vhdx" or module.startswith("vhdx.testing"), page.name


@pytest.mark.parametrize("call", SIGNATURES)
def test_documented_signatures_are_those_of_the_code(call: str) -> None:
    name, _, _ = call.partition("(")
    function = resolve(name.removeprefix("vhdx."))
    assert callable(function)
    documented = ast.parse(f"def f{call[len(name) :]}: ...").body[0]
    assert isinstance(documented, ast.FunctionDef)
    assert list(parameters_of(documented.args)) == [
        (parameter.name, parameter.kind, spelled(parameter.default))
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "tuning"
    ]


@pytest.mark.parametrize("name", ["Disk", "Image", "RawDevice"])
def test_documented_methods_of_devices_exist(name: str) -> None:
    table = API[API.index("## Disks") : API.index("`Disk` and `Image` also have")]
    methods = re.findall(r"^\| `(\w+)", table, re.MULTILINE)
    assert len(methods) > 8
    for method in methods:
        assert hasattr(getattr(vhdx, name), method), method


def code_of(text: str) -> str:
    """The parts of a page that are code: fenced blocks, and what stands between backticks."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return "\n".join([*fenced, *re.findall(r"`([^`\n]+)`", text)])


def resolve(dotted: str) -> object:
    """The object of a dotted name below `vhdx`: an attribute, or a module of the test kit."""
    found: object = vhdx
    for part in dotted.split("."):
        path = f"{found.__name__}.{part}" if isinstance(found, ModuleType) else ""
        if path.startswith("vhdx.testing") and pkgutil.resolve_name(path):
            found = pkgutil.resolve_name(path)
        else:
            found = getattr(found, part)
    return found


def parameters_of(arguments: ast.arguments) -> Iterator[tuple[str, object, str]]:
    """Name, kind and spelled default of what stands between the parentheses of a definition."""
    empty = [None] * (len(arguments.args) - len(arguments.defaults))
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for argument, default in zip(arguments.args, [*empty, *arguments.defaults], strict=True):
        yield argument.arg, kind, "" if default is None else ast.unparse(default)
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield argument.arg, inspect.Parameter.KEYWORD_ONLY, "" if default is None else ast.unparse(default)


def spelled(default: object) -> str:
    if default is inspect.Parameter.empty:
        return ""
    return default.__name__ if inspect.isfunction(default) else repr(default)
