"""Training on data that was damaged after it was built: no hang, no traceback, the same batches."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import torch
from annotated import line, plan_of, write_lines
from command import Run
from PIL import Image
from safetensors.torch import load_file
from tiny import tiny_model, tiny_recipe

from deixis.data.build import build
from deixis.errors import CheckpointError, DeixisError, WorkerError
from deixis.processing.processor import Processor
from deixis.recipes import recipe_to_json
from deixis.training import BuiltData, SceneData, Stage, TrainRecipe, train
from deixis.training.checkpoints import find_checkpoint
from deixis.training.data import Loaded, RowBatches, RowStream, loaded_batches

COUNT = 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("built")
    for number in range(COUNT):
        Image.new("RGB", (200, 100), (20 * number, 90, 90)).save(root / f"{number:06d}.png")
    lines = write_lines(root / "lines.jsonl", [line(number) for number in range(COUNT)])
    build(plan_of(f"jsonl:{lines}", tasks="rec", turns=1, check_images=True), root / "out")
    return root


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Path:
    """A copy whose fifth picture is cut short, and whose seventh is gone."""
    root = Path(shutil.copytree(whole, tmp_path / "copied"))
    picture = root / "000004.png"
    picture.write_bytes(picture.read_bytes()[:60])
    (root / "000006.png").unlink()
    return root


def data_of(root: Path) -> BuiltData:
    return BuiltData(str(root / "out"), root=str(root), row_tokens=96)


def recipe(root: Path, **changes: Any) -> TrainRecipe:
    stage = Stage(name="all", steps=6, batch_size=4, data=data_of(root), trainable=("projector",))
    return tiny_recipe(**{"stages": (stage,), "checkpoint_every": 1, "workers": 2, **changes})


def loaded(root: Path, *, workers: int, start: int = 0) -> list[Loaded]:
    _, processor = tiny_model()
    batches = RowBatches(processor, data_of(root), batch_size=4, start=start, stop=6)
    with loaded_batches(batches, workers=workers) as steps:
        return list(steps)


def quarantine(out: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (out / "quarantine.jsonl").read_text().splitlines()]


def test_a_replacement_follows_from_the_place_alone(damaged: Path) -> None:
    alone = loaded(damaged, workers=0)
    problems = [problem for one in alone for problem in one.problems]
    # two epochs of twelve, two damaged in each
    assert len(problems) == 4
    assert len({problem.row for problem in problems}) == 4
    for workers, start in ((1, 0), (2, 0), (0, 3), (2, 3)):
        again = loaded(damaged, workers=workers, start=start)
        for one, other in zip(alone[start:], again, strict=True):
            assert one.problems == other.problems
            (batch,), (same,) = one.pieces, other.pieces
            assert torch.equal(batch.pixel_values, same.pixel_values)
            assert torch.equal(batch.input_ids, same.input_ids)
    rows = [
        RowBatches(
            tiny_model()[1], data_of(damaged), batch_size=4, start=0, stop=1, rank=rank, world=2
        ).load(1)
        for rank in range(2)
    ]
    pixels = torch.stack([half.pieces[0].pixel_values for half in rows], dim=1).flatten(0, 1)
    assert torch.equal(pixels, alone[1].pieces[0].pixel_values)


def test_damaged_samples_are_replaced_counted_and_named(
    damaged: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(recipe(damaged), tmp_path / "out")
    found = quarantine(tmp_path / "out")
    assert len(found) == 4
    assert {"step", "row", "sample", "reason"} == found[0].keys()
    text = json.dumps(found)
    assert "000004.png: damaged (cut short)" in text
    assert "000006.png: no such file" in text
    assert f" of {damaged / 'out'}" in text
    assert "4 of 24 rows have the place of another whose sample is damaged" in caplog.text
    last = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[-1])
    assert last["quarantined"] == 4
    record = json.loads((tmp_path / "out" / "model" / "provenance.json").read_text())
    assert record["quarantined"] == 4


def test_a_run_that_goes_on_replaces_as_one_that_was_never_stopped(
    damaged: Path, tmp_path: Path
) -> None:
    kept = replace(recipe(damaged, keep_checkpoints=9), workers=0)
    train(kept, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for number in (4, 5, 6):
        shutil.rmtree(tmp_path / "cut" / "checkpoints" / f"step-{number:08d}")
    train(replace(kept, workers=2), tmp_path / "cut", resume=True)
    assert quarantine(tmp_path / "cut") == quarantine(tmp_path / "whole")
    runs = (tmp_path / "cut", tmp_path / "whole")
    newest = [find_checkpoint(one / "checkpoints").newest for one in runs]
    assert newest[0] is not None
    assert newest[1] is not None
    assert newest[0].state == newest[1].state
    assert newest[0].state.quarantined == 4
    first, second = (load_file(one.path / "model.safetensors") for one in newest if one)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_past_the_budget_a_run_ends_with_a_checkpoint_and_goes_on_after_repair(
    deixis: Run, damaged: Path, whole: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "tiny.json", tmp_path / "out"
    path.write_text(recipe_to_json(recipe(damaged, budget=0.0, checkpoint_every=100)))
    first = next(i for i, one in enumerate(loaded(damaged, workers=0)) if one.problems)
    assert first > 0
    ended = deixis("train", path, "--out", out)
    assert ended.code == 7
    told = ended.err.strip().splitlines()
    assert "samples are damaged, more than the budget of 0.000%; the last: row" in told[-2]
    assert ".png: " in told[-2]
    assert told[-1].startswith("hint: `deixis data check` finds them")
    assert not active_children()
    newest = find_checkpoint(out / "checkpoints").newest
    assert newest is not None
    assert newest.state.step == first
    for name in ("000004.png", "000006.png"):
        shutil.copy(whole / name, damaged / name)
    again = deixis("train", path, "--out", out, "--resume")
    assert again.code == 0, again.err
    assert (out / "quarantine.jsonl").read_text() == ""


def test_pictures_that_are_all_gone_end_the_run_at_once(
    deixis: Run, damaged: Path, tmp_path: Path
) -> None:
    for picture in damaged.glob("*.png"):
        picture.unlink()
    path = tmp_path / "tiny.json"
    path.write_text(recipe_to_json(recipe(damaged)))
    ended = deixis("train", path, "--out", tmp_path / "out")
    assert ended.code == 7
    assert "no such file" in ended.err
    assert "32 other samples that were tried in its place are of no use either" in ended.err
    # nothing began, so nothing stands in the way of the next try
    assert not (tmp_path / "out" / "recipe.json").exists()


def flipped(shard: Path) -> None:
    data = bytearray(shard.read_bytes())
    for place in range(4, len(data) // 2):
        data[place] ^= 0xFF
    shard.write_bytes(data)


@pytest.mark.parametrize("damage", [Path.unlink, flipped, lambda shard: shard.write_bytes(b"PAR1")])
def test_a_shard_that_cannot_be_read_is_one_line(
    deixis: Run, damaged: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    damage(next((damaged / "out" / "data").iterdir()))
    path = tmp_path / "tiny.json"
    path.write_text(recipe_to_json(recipe(damaged)))
    ended = deixis("train", path, "--out", tmp_path / "out")
    assert ended.code == 7
    assert "cannot read" in ended.err


def test_a_data_set_that_was_built_again_is_not_trained_on(damaged: Path, tmp_path: Path) -> None:
    kept = recipe(damaged, workers=0, keep_checkpoints=9)
    train(kept, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "checkpoints" / "step-00000006")
    manifest = damaged / "out" / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    with pytest.raises(CheckpointError, match="is not the one that the run was trained on until"):
        train(kept, tmp_path / "out", resume=True)


class Broken:
    """A stream that fails at its fourth row."""

    epoch, digest = 100, ""

    def __init__(self, stream: RowStream, fail: Callable[[], object]) -> None:
        self.stream = stream
        self.fail = fail

    def name(self, index: int) -> str:
        return str(index)

    def row(self, index: int) -> Any:
        if index == 3:
            self.fail()
        return self.stream.row(index)


def broken(processor: Processor, fail: Callable[[], object]) -> RowBatches:
    data = SceneData(seed=5, long_side=64, turns=1, row_tokens=64)
    batches = RowBatches(processor, data, batch_size=1, start=0, stop=9)
    batches.stream = Broken(batches.stream, fail)
    return batches


def problem_of_ours() -> None:
    raise ZeroDivisionError("a number\nof lines")


def killed(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def exits() -> None:
    os._exit(3)


def collect(batches: RowBatches, steps: list[Loaded]) -> None:
    with loaded_batches(batches, workers=2) as loading:
        steps.extend(loading)


def fail_in_a_step(batches: RowBatches) -> None:
    with loaded_batches(batches, workers=1) as loading:
        next(loading)
        raise RuntimeError("of the step itself")


@pytest.mark.parametrize(
    ("fail", "words", "done"),
    [
        (problem_of_ours, r"^batch of step 3: ZeroDivisionError: a number of lines \(test_dam", 3),
        (killed(signal.SIGKILL), "was ended by SIGKILL, as the system does where memory runs", 0),
        (killed(signal.SIGBUS), "was ended by SIGBUS, as the system does where shared memory", 0),
        (exits, "ended with exit code 3", 0),
    ],
)
def test_a_worker_that_fails_or_is_ended_is_one_error(
    fail: Callable[[], object], words: str, done: int
) -> None:
    _, processor = tiny_model()
    steps: list[Loaded] = []
    with pytest.raises(WorkerError, match=words) as caught:
        collect(broken(processor, fail), steps)
    assert done <= len(steps) <= 3
    assert isinstance(caught.value, DeixisError)
    assert "hint: " in str(caught.value)
    assert not active_children()


def test_an_error_in_the_block_stays_what_it_is_and_ends_the_workers() -> None:
    _, processor = tiny_model()
    with pytest.raises(RuntimeError, match="of the step itself"):
        fail_in_a_step(broken(processor, problem_of_ours))
    assert not active_children()


def test_a_killed_worker_ends_the_command_in_one_line(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from multiprocessing import active_children;"
        "from pathlib import Path; sys.path.insert(0, sys.argv[2]);"
        "from dataclasses import replace; from tiny import tiny_recipe;"
        "from deixis.cli import main; from deixis.cli import app;"
        "import deixis.training.loop as loop; whole = loop.learning_rate\n"
        "def rate(config, step, steps):\n"
        "    if step == 2:\n"
        "        os.kill(active_children()[0].pid, signal.SIGKILL)\n"
        "    return whole(config, step, steps)\n"
        "loop.learning_rate = rate\n"
        "sys.exit(main(['train', sys.argv[2] + '/tiny.py:tiny_recipe', '--out', sys.argv[1],"
        " '--set', 'workers=2', '--set', 'stages.0.steps=9000',"
        " '--set', 'stages.0.trainable=projector', '--set', 'checkpoint_every=1']))"
    )
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", script, str(tmp_path / "out"), str(Path(__file__).parents[1])],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "deixis: a process that loads data was ended by SIGKILL" in done.stderr
    assert find_checkpoint(tmp_path / "out" / "checkpoints").newest is not None
