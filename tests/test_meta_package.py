"""What holds for the package as a whole: names, imports, errors, texts about them."""

import fnmatch
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import deixis
from deixis import errors

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "deixis").rglob("*.py"))
MODULES = sorted(module.name for module in pkgutil.walk_packages(deixis.__path__, prefix="deixis."))
PACKAGES = [
    name for name in ["deixis", *MODULES] if hasattr(importlib.import_module(name), "__all__")
]
ERRORS = sorted(errors.DeixisError.__subclasses__(), key=lambda error: error.__name__)


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_are_sorted_and_there(name: str) -> None:
    module = importlib.import_module(name)
    # Constants first, then classes, then functions: the order that the linter sorts into.
    expected = sorted(
        module.__all__, key=lambda each: (not each.isupper(), each[0].islower(), each)
    )
    assert list(module.__all__) == expected
    assert len(set(module.__all__)) == len(module.__all__)
    for public in module.__all__:
        assert getattr(module, public) is not None


def test_the_top_level_lists_exactly_what_it_can_load() -> None:
    assert set(deixis.__all__) == set(deixis._HOME_OF)
    assert {"DeixisError", *(error.__name__ for error in ERRORS)} <= set(deixis.__all__)
    assert set(deixis.__all__) <= set(dir(deixis))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'deixis' has no attribute 'nothing'"):
        deixis.nothing  # noqa: B018


@pytest.mark.parametrize(
    "name", ["deixis", "deixis.geometry", "deixis.structures", "deixis.notation", "deixis.storage"]
)
def test_the_nouns_need_no_torch(name: str) -> None:
    program = (
        f"import sys, {name}, deixis; deixis.Box; deixis.Answer; print('torch' in sys.modules)"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_every_public_name_and_module_has_a_docstring() -> None:
    for name in PACKAGES:
        module = importlib.import_module(name)
        assert module.__doc__, name
        for public in module.__all__:
            value = getattr(module, public)
            if getattr(value, "__module__", "").startswith("deixis") and callable(value):
                assert value.__doc__, f"{name}.{public}"


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert citation is not None
    assert deixis.__version__ == version("deixis") == project["version"] == citation[1]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_that_is_raised_is_met_by_some_test(error: type[errors.DeixisError]) -> None:
    raised = any(f"raise {error.__name__}(" in path.read_text() for path in SOURCES)
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    met = any(error.__name__ in path.read_text() for path in tests)
    assert met or not raised


def test_the_table_of_exit_codes_is_true() -> None:
    text = (ROOT / "docs" / "errors-and-exit-codes.md").read_text()
    rows = re.findall(r"^\| (\d+) \| .* \| (.*) \|$", text, re.MULTILINE)
    told = {name: int(code) for code, names in rows for name in re.findall(r"\w+Error", names)}
    actual = {error.__name__: error.exit_code for error in ERRORS}
    assert told == actual


@pytest.mark.parametrize(
    "word",
    ["trust_remote_code", "torch.load(", "yaml.load", "state, strict=False", "# type: ignore\n"],
)
def test_what_must_not_be_used_is_not_used(word: str) -> None:
    allowed = {"torch.load(": {"unpickle_weights.py"}}.get(word, set())
    found = {path.name for path in SOURCES if word in path.read_text()}
    assert found == allowed


def test_the_one_file_that_unpickles_reads_only_tensors_and_is_never_imported() -> None:
    (program,) = (path for path in SOURCES if path.name == "unpickle_weights.py")
    (call,) = re.findall(r"torch\.load\((.*)\)", program.read_text())
    assert "weights_only=True" in call
    importers = [path for path in SOURCES if "import unpickle" in path.read_text()]
    assert not importers


def test_there_is_no_folder_for_odds_and_ends() -> None:
    odd = {"utils", "util", "common", "helpers", "misc"}
    assert not [path for path in SOURCES if odd & {*path.parent.parts, path.stem}]


def test_the_licence_is_the_one_that_is_claimed() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence


def test_no_folder_of_tests_is_passed_over(pytestconfig: pytest.Config) -> None:
    passed_over = pytestconfig.getini("norecursedirs")
    folders = {path.parent.name for path in (*(ROOT / "tests").rglob("test_*.py"), *SOURCES)}
    assert "build" in folders
    assert not [
        folder for folder in folders for pattern in passed_over if fnmatch.fnmatch(folder, pattern)
    ]
