"""What the README shows is run."""

import io
import json
import re
import shlex
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pytest
from command import Run

from deixis.data.scenes import draw_scene
from deixis.geometry.boxes import box_iou

ROOT = Path(__file__).parent.parent
DRAWING = run_path(str(ROOT / "examples" / "draw.py"))
SEED, PICTURES = DRAWING["SEED"], DRAWING["PICTURES"]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def shown_commands(text: str) -> list[str]:
    """Commands of deixis that a page shows."""
    return [
        command
        for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL)
        for command in re.findall(r"^\$ (deixis .*)$", block, re.MULTILINE)
    ]


COMMANDS = shown_commands(README)
PAGE_COMMANDS = [
    command
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for command in shown_commands(page.read_text())
]
PAGES = [
    page
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if re.search(r"```python\n.*?```\n\n```text\n", page.read_text(), re.DOTALL)
]
"""Pages whose blocks are followed by what they print; the blocks of a page run one after another."""
TRAINING = re.findall(r"^(deixis train .*)$", README, re.MULTILINE)


PAGE_TRAINING = [
    command.replace("\\\n", " ")
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    for command in re.findall(r"^(deixis train (?:[^\n\\]|\\\n)*)", block, re.MULTILINE)
]


@pytest.fixture
def readme_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder that has the examples, to run what the README shows in."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_screen_has_what_a_newcomer_looks_for() -> None:
    first = README.splitlines()[:30]
    assert sum(line.startswith("$ make") for line in first) == 2
    assert len(PYTHON[0].splitlines()) == 6
    assert len(COMMANDS) == 5


def test_the_numbers_of_the_readme_are_those_of_the_code() -> None:
    from deixis.data.sources import FORMATS  # noqa: PLC0415 (what the other tests do without)
    from deixis.data.tasks import TASKS  # noqa: PLC0415
    from deixis.data.wording import wordings  # noqa: PLC0415

    text = " ".join(README.split())
    tried = Counter(one.tried for one in FORMATS.values())
    assert f"{len(FORMATS)} annotation formats and" in text
    assert (
        f"{tried['original files']} tried on files of the data set itself, "
        f"{tried['files written by deixis']} on files that deixis writes, "
        f"{tried['files written by hand']} on files written by hand"
    ) in text
    own = [task for task in TASKS.values() if not task.wordings]
    assert f"There are {len(TASKS)} [tasks]" in text
    assert "Six of them ask questions that the source contains" in text
    assert len(own) == 6
    worded = {name for task in TASKS.values() for name in task.wordings}
    assert f"{min(len(wordings(name)) for name in worded)} or more for each task" in text


def test_the_scores_of_the_readme_are_those_of_the_results() -> None:
    page = (ROOT / "results" / "scenes_tiny.md").read_text()
    scores = re.findall(r"^\| scenes/rec:val@\w+ \| ([\d.]+) ", page, re.MULTILINE)
    plain, standard, hard = (int(float(score) * 100 + 0.5) for score in scores)
    assert f"for {plain} % (plain scenes), {standard} % (standard) and {hard} % (hard)" in README


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=range(len(PYTHON)))
def test_python_blocks_run(block: str, readme_folder: Path) -> None:
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(block, "README.md", "exec"), {})  # noqa: S102
    assert printed.getvalue().strip()
    assert readme_folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_print_what_they_show(page: Path, readme_folder: Path) -> None:
    blocks = re.findall(
        r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", page.read_text(), re.DOTALL
    )
    names: dict[str, object] = {}
    for block, expected in blocks:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(block, page.name, "exec"), names)  # noqa: S102
        assert printed.getvalue() == expected
    assert readme_folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", [*COMMANDS, *PAGE_COMMANDS])
def test_commands_run(command: str, deixis: Run, readme_folder: Path) -> None:
    _, *arguments = shlex.split(command)
    ended = deixis(*arguments)
    assert ended.code == 0, ended.err
    if "--out" in arguments:
        assert (readme_folder / arguments[arguments.index("--out") + 1]).exists()


def test_the_training_commands_name_a_recipe_and_fields_that_exist() -> None:
    from deixis.recipes import load_recipe  # noqa: PLC0415 (torch is slow to load)

    for command in TRAINING:
        words = shlex.split(command)
        overrides = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
        assert load_recipe(words[2], overrides).stages[0].steps == (20 if overrides else 600)
    assert len(TRAINING) == 4


@pytest.mark.parametrize("command", PAGE_TRAINING)
def test_training_commands_of_pages_name_fields_that_exist(command: str) -> None:
    from deixis.recipes import apply_overrides, load_recipe  # noqa: PLC0415 (torch is slow)
    from deixis.training import going_on_from  # noqa: PLC0415

    words = shlex.split(command)
    overrides = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    # a file of one's own is not there; its overrides are those of any recipe
    recipe = load_recipe("scenes_tiny" if ".py:" in words[2] else words[2])
    if "--from" in words:
        recipe = going_on_from(recipe, words[words.index("--from") + 1])
    assert apply_overrides(recipe, overrides).stages


@pytest.mark.slow
def test_the_demo_prints_answers_that_are_right_and_draws_them(
    readme_folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["demo.py", str(readme_folder / "demo")])
    run_path(str(ROOT / "examples" / "demo.py"), run_name="__main__")
    overlays = sorted((readme_folder / "demo").glob("*.png"))
    printed = capfd.readouterr()
    assert printed.err == ""
    answers = re.findall(r"^(scene-\d\.png): (.*)\n((?:  .*\n)*)", printed.out, re.MULTILINE)
    assert len(answers) == len(overlays) >= 4
    truth = {
        name: draw_scene(SEED, index, level=level, split="test") for name, index, level in PICTURES
    }
    pointed: list[str] = []
    for (picture, question, lines), overlay in zip(answers, overlays, strict=True):
        assert lines.splitlines()[-1] == f"  drawn in {overlay}"
        things = truth[picture].things
        for phrase, *corners in re.findall(
            r"^  (.*): \w+ at \((\d+), (\d+)\) to \((\d+), (\d+)\), \d+% sure$", lines, re.MULTILINE
        ):
            (thing,) = (one for one in things if one.name in phrase.split())
            assert thing.box is not None
            found = np.array([corners], dtype=float)
            assert box_iou(found, np.array([thing.box]))[0, 0] > 0.7
            pointed.append(thing.name)
        if "There is no" in lines:
            assert question == "Where is the blue square?"
            assert not [one for one in things if (one.name, one.color) == ("square", "blue")]
        if question.startswith("What is the thing at"):
            (oval,) = (one for one in things if one.name == "oval")
            assert lines.startswith("  A dotted purple oval.\n")
            assert (oval.texture, oval.color) == ("dotted", "purple")
    assert pointed == ["circle", "person", "basket", "moon"]
    assert "It is weak at counting" in printed.out


@pytest.mark.slow
def test_the_notebook_runs_and_is_stored_without_outputs(readme_folder: Path) -> None:
    notebook = json.loads((ROOT / "examples" / "first-steps.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"] is not None]
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with redirect_stdout(printed):
        for number, cell in enumerate(cells):
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)  # noqa: S102
    assert len(names["losses"]) == names["recipe"].total_steps
    assert "scenes/rec:val@plain" in printed.getvalue()
    assert names["answer"].draw().width >= names["answer"].size.width
    assert names["examples"] == Path("examples")
    assert readme_folder.exists()
