"""What is installed: every version pinned, and a distribution that works without its repository."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import warnings
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from deprecations import Deprecations
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [each.rsplit(" ", 1)[1] for each in PROJECT["classifiers"]]


def pins(python: str) -> dict[str, str]:
    """Versions that the constraints name for a Python; fails where one has two."""
    environment = {
        **{name: str(value) for name, value in default_environment().items()},
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    found: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate(environment):
            continue
        name = canonicalize_name(requirement.name)
        assert name not in found, f"{name} is pinned twice for Python {python}"
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), line
        found[name] = str(requirement.specifier).removeprefix("==")
    return found


def needed(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """Packages that an installed one asks for in this environment."""
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        marked = requirement.marker
        if marked is None or any(marked.evaluate({"extra": extra}) for extra in extras or {""}):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


@pytest.mark.parametrize("python", PYTHONS)
def test_each_requirement_has_one_pin_within_its_bounds(python: str) -> None:
    pinned = pins(python)
    for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]):
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text


def test_every_package_that_is_installed_for_development_is_pinned() -> None:
    pinned = pins(f"{sys.version_info[0]}.{sys.version_info[1]}")
    waiting = [("deixis", frozenset({"dev"}))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting.extend(needed(*one))
    names = {name for name, _ in seen} - {"deixis"}
    assert len(names) > 60
    assert names <= set(pinned)


def test_every_requirement_has_an_upper_bound() -> None:
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        for text in texts:
            operators = {each.operator for each in Requirement(text).specifier}
            assert operators == {">=", "<"}, text


def test_pythons_are_those_of_the_lock() -> None:
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    (bound,) = {
        match[1]
        for match in re.finditer(
            r"python_full_version < '(3\.\d+)'", (ROOT / "pyproject.toml").read_text()
        )
    }
    assert int(bound.split(".")[1]) == int(PYTHONS[-1].split(".")[1]) + 1


def test_a_deprecation_is_told_once_and_fails_the_run_that_asks_for_it() -> None:
    met = warnings.WarningMessage("`old` will go", FutureWarning, "a/lib/site/file.py", 3)
    harmless = warnings.WarningMessage("odd", UserWarning, "a/lib/site/file.py", 3)
    for fail in (False, True):
        collected = Deprecations(fail=fail)
        assert collected.status(pytest.ExitCode.OK) == pytest.ExitCode.OK
        for warning, test in ((met, "test_a"), (met, "test_b"), (harmless, "test_c")):
            collected.pytest_warning_recorded(warning, test)
        assert collected.lines() == [
            "FutureWarning: `old` will go (lib/site/file.py): 2 times, first in test_a"
        ]
        expected = pytest.ExitCode.TESTS_FAILED if fail else pytest.ExitCode.OK
        assert collected.status(pytest.ExitCode.OK) == expected
        assert collected.status(pytest.ExitCode.INTERRUPTED) == pytest.ExitCode.INTERRUPTED


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build a wheel from a source distribution that is built from the repository."""
    built = tmp_path_factory.mktemp("dist")
    copy = tmp_path_factory.mktemp("clone")
    names = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    # a copy, since building writes into the folder; and what is not committed shall not count
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).symlink_to(ROOT / name)
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), str(copy)]
    subprocess.run(words, check=True, capture_output=True)  # noqa: S603
    (wheel,) = built.glob("*.whl")
    (source,) = built.glob("*.tar.gz")
    return wheel, source


@pytest.mark.slow
def test_weights_and_wordings_are_in_a_distribution_and_tests_are_not(
    distributions: tuple[Path, Path],
) -> None:
    wheel, source = distributions
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    with tarfile.open(source) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    package = ROOT / "src" / "deixis"
    expected = {
        f"deixis/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in inside if name.startswith("deixis/")} == expected
    assert {f"src/{name}" for name in expected} <= packed
    assert "deixis/models/weights/scenes-tiny/model.safetensors" in expected
    assert "deixis/data/wording/rec.json" in expected
    assert not [name for name in packed if re.match(r"(tests|results|docs|benchmarks)/", name)]


@pytest.mark.slow
def test_the_size_of_the_distributions_is_the_one_that_the_readme_states(
    distributions: tuple[Path, Path],
) -> None:
    stated = re.search(r"each of (\d+) MB", (ROOT / "README.md").read_text())
    assert stated is not None
    for file in distributions:
        assert abs(file.stat().st_size / 1e6 - int(stated[1])) < 1, file.name


@pytest.mark.slow
def test_an_installed_wheel_points_builds_data_and_trains(
    distributions: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    picture = folder / "scene.png"
    picture.write_bytes((ROOT / "examples" / "scene-1.png").read_bytes())
    place = tmp_path / "environment"
    venv.create(place)
    python = place / "bin" / "python"
    packages = next((place / "lib").glob("python*/site-packages"))
    # The libraries of this environment, without its link to the repository, which is in a .pth file.
    (packages / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    install = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install"]
    install += ["--no-deps", "--no-index", "--disable-pip-version-check", "--force-reinstall"]
    subprocess.run([*install, str(distributions[0])], check=True, capture_output=True)  # noqa: S603
    unset = {"PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE"}
    environment = {key: value for key, value in os.environ.items() if key not in unset}

    def run(*words: str) -> str:
        done = subprocess.run(  # noqa: S603
            words, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    home = run(str(python), "-c", "import deixis; print(deixis.__file__)")
    assert Path(home.strip()).is_relative_to(packages)
    deixis = str(place / "bin" / "deixis")
    answer = json.loads(run(deixis, "point", "scene.png", "the red circle", "--json"))
    assert answer["text"] == "The red circle."
    source = "scenes:train,count=3,level=plain"
    run(deixis, "data", "build", "rec", "--source", source, "--out", "built")
    small = [
        word
        for stage in range(3)
        # Muon orthogonalises every matrix at each step, which some processors are slow at
        for field in ("steps=1", "batch_size=2", "optimizer.muon_scale=none")
        for word in ("--set", f"stages.{stage}.{field}")
    ]
    start = ["--from", "scenes-tiny", "--data", "built", "--out", "run"]
    run(deixis, "train", "scenes_tiny", *start, *small)
    assert (folder / "run" / "model" / "model.safetensors").is_file()
