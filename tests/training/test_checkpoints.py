"""Checkpoints, logs and recipes that were damaged before a run is resumed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Run
from ending import short_files
from safetensors.torch import load_file
from tiny import tiny_recipe

from deixis.errors import CheckpointError, LockedError, RecipeError, StorageError
from deixis.recipes import load_kept
from deixis.storage import seal
from deixis.training import LiveData, SceneData, Stage, train, with_moved_index
from deixis.training.checkpoints import (
    TrainingState,
    find_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from deixis.training.optimizers import build_optimizer
from deixis.training.progress import TrainLog, rows_until
from deixis.training.recipe import Optimizer, TrainRecipe

TINY = Path(__file__).parents[1] / "tiny.py"
DATA = SceneData(seed=5, long_side=64, turns=1, row_tokens=64)
STAGES = (
    Stage(name="one", steps=2, batch_size=1, data=DATA, trainable=("projector",)),
    Stage(name="two", steps=2, batch_size=1, data=DATA, trainable=("projector",)),
)
MODEL, OPTIMIZER, RANDOM = (f"{n}.safetensors" for n in ("model", "optimizer", "random"))


def recipe(**changes: Any) -> TrainRecipe:
    return tiny_recipe(
        **{"stages": STAGES, "checkpoint_every": 1, "keep_checkpoints": 9, **changes}
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    train(recipe(), out)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copied"))


def step(out: Path, number: int) -> Path:
    return out / "checkpoints" / f"step-{number:08d}"


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def in_manifest(**values: Any) -> Callable[[Path], None]:
    return lambda path: changed(path / "manifest.json", lambda content: content.update(values))


def sealed(**values: Any) -> Callable[[Path], None]:
    """Write other values into a manifest, with a matching digest."""

    def write(path: Path) -> None:
        content = json.loads((path / "manifest.json").read_text())
        del content["digest"]
        (path / "manifest.json").write_text(json.dumps(seal({**content, **values})))

    return write


def without_files(path: Path) -> None:
    in_manifest(files={})(path)
    flip(path / MODEL)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "step": (in_manifest(step=10), "manifest.json has changed since it was written"),
    "stage": (in_manifest(stage=7), "manifest.json has changed since it was written"),
    "no files": (without_files, "manifest.json has changed since it was written"),
    "digest": (in_manifest(digest="0" * 64), "manifest.json has changed since it was written"),
    "no digest": (
        lambda path: changed(path / "manifest.json", lambda content: content.pop("digest")),
        "manifest.json has changed since it was written",
    ),
    "format": (in_manifest(format=3), "expected format 1 or 2, got 3"),
    "older format": (in_manifest(format=1), "expected the fields"),
    "a list": (lambda path: (path / "manifest.json").write_text("[]"), "expected a JSON object"),
    "cut": (lambda path: (path / "manifest.json").write_text('{"step": 4'), "incomplete"),
    "twice": (
        lambda path: (path / "manifest.json").write_text('{"step": 4, "step": 4}'),
        "a key is repeated",
    ),
    "deep": (lambda path: (path / "manifest.json").write_text("[" * 100_000), "incomplete"),
    "long": (lambda path: (path / "manifest.json").write_text(" " * (2**20 + 1)), "at most"),
    "none": (lambda path: (path / "manifest.json").unlink(), "incomplete: no such file"),
    "weights": (
        lambda path: flip(path / MODEL),
        "model.safetensors has changed since it was written",
    ),
    "optimizer": (lambda path: flip(path / OPTIMIZER), "optimizer.safetensors has changed"),
    "random": (lambda path: flip(path / RANDOM), "random.safetensors has changed"),
    "recipe": (
        lambda path: flip(path / "recipe.json"),
        "recipe.json has changed since it was written",
    ),
    "missing": (lambda path: (path / RANDOM).unlink(), "random.safetensors is missing"),
    "another": (
        lambda path: (path / "x.bin").write_bytes(b""),
        "x.bin is not part of a checkpoint",
    ),
    "negative": (sealed(quarantined=-1), "quarantined: a whole number from 0 on, got -1"),
    "a digit too long": (sealed(data=["x" * 77]), f"data: text, got ['{'x' * 75}..."),
    "as long as may be": (sealed(data=["x" * 76]), f"data: text, got ['{'x' * 76}']"),
    "renamed": (lambda path: path.rename(path.with_name("step-00000005")), "expected step 5, as"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_every_damage_of_a_checkpoint_is_detected_and_the_previous_one_is_used(
    kind: str, run: Path
) -> None:
    damage, message = DAMAGE[kind]
    damage(step(run, 4))
    found = find_checkpoint(run / "checkpoints")
    assert found.newest is not None
    assert found.newest.path == step(run, 3)
    ((path, reason),) = found.damaged.items()
    assert path.name in {"step-00000004", "step-00000005"}
    assert message in reason
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f"checkpoint {path}: ")


def test_a_damaged_checkpoint_is_reported_set_aside_and_written_again(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # copies: loaded tensors are mapped from the file and would change with it
    whole = {name: tensor.clone() for name, tensor in load_file(step(run, 4) / MODEL).items()}
    flip(step(run, 4) / MODEL)
    train(recipe(), run, resume=True)
    (message,) = [r.getMessage() for r in caplog.records if " is damaged (" in r.getMessage()]
    assert (
        "step-00000004 is damaged (model.safetensors has changed since it was written)" in message
    )
    assert "set aside as damaged-step-00000004; the run resumes from step-00000003" in message
    again = load_file(step(run, 4) / MODEL)
    assert all(torch.equal(again[name], tensor) for name, tensor in whole.items())
    assert step(run, 4).with_name("damaged-step-00000004").is_dir()
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]


def test_if_all_checkpoints_are_damaged_the_error_lists_them(deixis: Run, run: Path) -> None:
    for number in (1, 2, 3, 4):
        flip(step(run, number) / MODEL)
    before = (run / "log.jsonl").read_bytes()
    ended = deixis("train", f"{TINY}:tiny_recipe", "--out", run, "--resume")
    assert ended.code == 7
    first, hint = ended.err.strip().splitlines()[-2:]
    assert "no valid checkpoint: step-00000004: model.safetensors has changed" in first
    assert "step-00000001" in first
    assert hint.startswith("hint: ")
    assert (run / "log.jsonl").read_bytes() == before


def as_earlier_versions_wrote(path: Path) -> None:
    (path / "recipe.json").unlink()

    def older(content: dict[str, Any]) -> None:
        content["format"] = 1
        for name in ("digest", "data", "quarantined"):
            content.pop(name)
        content["files"].pop("recipe.json")

    changed(path / "manifest.json", older)


def test_a_checkpoint_of_an_earlier_version_is_used_with_a_warning(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (3, 4):
        as_earlier_versions_wrote(step(run, number))
    flip(step(run, 4) / OPTIMIZER)

    def older(content: dict[str, Any]) -> None:
        content.pop("budget")

    changed(run / "recipe.json", older)
    train(recipe(), run, resume=True)
    assert "written by an earlier version without a digest of the manifest" in caplog.text
    # values of a manifest without digest are checked
    shutil.rmtree(step(run, 4))
    in_manifest(stage=7)(step(run, 3))
    caplog.clear()
    train(recipe(), run, resume=True)
    assert "step-00000003 is damaged (stage 7, expected at most 2)" in caplog.text
    as_earlier_versions_wrote(step(run, 4))
    in_manifest(stage=1)(step(run, 4))
    caplog.clear()
    train(recipe(), run, resume=True)
    assert "is damaged (step 4 in stage 1, expected 2 to 3)" in caplog.text


def test_a_checkpoint_of_another_run_is_not_used(
    run: Path, finished: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    train(recipe(seed=9), tmp_path / "other")
    shutil.rmtree(step(run, 4))
    shutil.copytree(step(tmp_path / "other", 4), step(run, 4))
    train(recipe(), run, resume=True)
    assert "step-00000004 is damaged (its recipe differs from" in caplog.text
    mine, wanted = (load_file(step(one, 4) / MODEL) for one in (run, finished))
    assert all(torch.equal(mine[name], tensor) for name, tensor in wanted.items())


def test_only_older_checkpoints_are_removed_for_a_new_one(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(model, Optimizer())
    kept = {"stages": [{"name": "x", "steps": 20}]}
    for number in (8, 10, 9):
        save_checkpoint(tmp_path, TrainingState(number, 0), model, optimizer, keep=1, recipe=kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000009", "step-00000010"]


@pytest.mark.parametrize("size", [0, 20, 900])
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, size: int) -> None:
    model = torch.nn.Linear(8, 8)
    optimizer = build_optimizer(model, Optimizer())
    kept = {"stages": [{"name": "x", "steps": 20}]}
    save_checkpoint(tmp_path, TrainingState(1, 0), model, optimizer, keep=1, recipe=kept)
    with (
        short_files(size),
        pytest.raises(StorageError, match=r"step-00000002: cannot write: .*too large"),
    ):
        save_checkpoint(tmp_path, TrainingState(2, 0), model, optimizer, keep=1, recipe=kept)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert read_checkpoint(tmp_path / "step-00000001").state == TrainingState(1, 0)


CUT_LOG = b'{"step": 1, "loss": 1.0, "seconds": 2.5}\n{"step": 2, "lo'
ODD_LOG = (
    b'{"step": 1, "seconds": 2.5}\nnonsense\n{"step": 1}\n[]\n{"step": "2"}\n\xff\n'
    b'{"step": 2, "seconds": "x"}\n{"step": 3}\n{"step": 2}\n{"step": 4}'
)


def test_a_log_is_truncated_to_the_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(CUT_LOG)
    log = TrainLog(path, None, total=9, step=1)
    assert log.seconds >= 2.5
    assert path.read_bytes() == CUT_LOG[: CUT_LOG.index(b"\n") + 1]
    assert not caplog.records
    path.write_bytes(ODD_LOG)
    assert TrainLog(path, None, total=9, step=3).seconds < 2
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]
    assert "line 2 is not a log row; skipped" in caplog.text
    assert [message for message in caplog.messages if "line 3" in message] == []
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_step_may_have_several_rows_unless_once_is_given(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.jsonl"
    assert rows_until(path, 5) == []
    path.write_text('{"step": 1}\n{"step": 1}\n{"step": 2}\n')
    assert len(rows_until(path, 1)) == 2
    assert path.read_text() == '{"step": 1}\n{"step": 1}\n'
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageError, match="cannot read: is a directory"):
        rows_until(path, 1)


@pytest.mark.parametrize("damage", ["{", "[]", '{"stages": 3}', '{"stages": [{"steps": "x"}]}', ""])
def test_a_damaged_recipe_is_a_one_line_error_with_a_remedy(
    deixis: Run, run: Path, damage: str
) -> None:
    path = run / "recipe.json"
    path.write_text(damage)
    ended = deixis("train", f"{TINY}:tiny_recipe", "--out", run, "--resume")
    assert ended.code == 7
    first, hint = ended.err.strip().splitlines()
    assert first.startswith(f"deixis: {path}: damaged: ")
    found = hint.split()
    assert found[:2] == ["hint:", "cp"]
    # the remedy that the hint names
    shutil.copy(found[2], found[3])
    assert load_kept(run) == recipe()


def test_a_recipe_with_unknown_fields_is_damaged(run: Path) -> None:
    changed(run / "recipe.json", lambda content: content.update(model="nothing"))
    with pytest.raises(CheckpointError, match=r"recipe.json: damaged: recipe.model: expected"):
        load_kept(run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(CheckpointError, match="restore a copy of it"):
        load_kept(run)


def test_fields_that_do_not_affect_weights_may_change_on_resume(run: Path) -> None:
    for number in (3, 4):
        shutil.rmtree(step(run, number))
    train(recipe(workers=1, log_every=3, keep_checkpoints=1, budget=0.5), run, resume=True)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000004"]


def test_two_processes_do_not_train_into_one_folder(run: Path) -> None:
    script = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(  # noqa: S603 - our own script
        [sys.executable, "-c", script, str(run / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(LockedError, match="another process is training into it"):
            train(recipe(), run, resume=True)
    finally:
        holder.communicate()
    train(recipe(), run, resume=True)
    assert not (run / ".lock").exists()


def test_a_run_without_a_checkpoint_starts_again_with_a_warning(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(run / "checkpoints")
    train(recipe(), run, resume=True)
    assert "no checkpoint yet: the run starts again at its first step" in caplog.text
    assert len((run / "log.jsonl").read_text().splitlines()) == 4


def test_a_run_whose_folder_was_moved_uses_its_own_index(tmp_path: Path) -> None:
    live = LiveData(("jsonl:x",), "rec", str(tmp_path / "before" / "index"))
    moved = recipe(stages=(*STAGES, replace(STAGES[1], name="live", data=live)))
    assert with_moved_index(moved, tmp_path) == moved
    (tmp_path / "index").mkdir()
    found = with_moved_index(moved, tmp_path).stages
    assert found[:2] == STAGES
    assert found[2].data == replace(live, index=str(tmp_path.resolve() / "index"))
    (tmp_path / "before" / "index").mkdir(parents=True)
    assert with_moved_index(moved, tmp_path) == moved


def test_a_run_whose_folders_were_moved_resumes(run: Path, tmp_path: Path) -> None:
    for number in (2, 3, 4):
        shutil.rmtree(step(run, number))
    one = replace(STAGES[0], features=str(tmp_path / "features"))
    train(recipe(stages=(one, STAGES[1])), run, resume=True)
    assert (tmp_path / "features").is_dir()
    other = replace(STAGES[0], batch_size=2)
    with pytest.raises(
        CheckpointError, match=r"may differ, and workers, .*, root, index, features"
    ):
        train(recipe(stages=(other, STAGES[1])), run, resume=True)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("workers", -1, "workers: expected 0 or more"),
        ("log_every", 0, "log_every: expected 1 or more"),
        ("checkpoint_every", 0, "checkpoint_every: expected 1 or more"),
        ("keep_checkpoints", 0, "keep_checkpoints: expected 1 or more"),
        ("budget", 1.5, "budget: expected a share from 0 to 1"),
        ("budget", float("nan"), "budget: expected a share from 0 to 1"),
    ],
)
def test_numbers_out_of_range_are_refused(field: str, value: float, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        recipe(**{field: value})
