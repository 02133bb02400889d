from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from annotated import line, write_lines
from command import Run
from PIL import Image
from tiny import tiny_model, tiny_recipe

from deixis.errors import RecipeError
from deixis.recipes.overrides import apply_overrides
from deixis.training import LiveData, on_live_data, train
from deixis.training.data import RowBatches, loaded_batches

_RECIPE = Path(__file__).parent.parent / "tiny.py"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("live")
    for number in range(10):
        Image.new("RGB", (200, 100), (25 * number, 90, 90)).save(root / f"{number:06d}.png")
    return write_lines(root / "lines.jsonl", [line(number) for number in range(10)])


def _data(lines: Path, index: Path, **changes: Any) -> LiveData:
    data = LiveData((f"jsonl:{lines}",), "rec,res,detection,reg,caption", str(index), turns=3)
    return replace(data, **changes)


def test_batches_made_during_training_do_not_depend_on_ranks_or_workers(
    lines: Path, tmp_path: Path
) -> None:
    _, processor = tiny_model()
    data = _data(lines, tmp_path, seed=3)

    def batches(**options: int) -> RowBatches:
        return RowBatches(processor, data, batch_size=4, start=2, stop=5, **options)

    alone = [batch for (batch,) in batches()]
    with loaded_batches(batches(), workers=2) as steps:
        loaded = [batch for (batch,) in steps]
    for one, other in zip(alone, loaded, strict=True):
        assert torch.equal(one.input_ids, other.input_ids)
        assert torch.equal(one.pixel_values, other.pixel_values)
    first, second = ([batch for (batch,) in batches(rank=rank, world=2)] for rank in (0, 1))
    for whole, *parts in zip(alone, first, second, strict=True):
        for number, row in enumerate(whole.input_ids):
            part = parts[number % 2].input_ids[number // 2]
            shared = min(len(row), len(part))
            assert torch.equal(row[:shared], part[:shared])


def test_a_resumed_run_on_annotations_equals_an_uninterrupted_one(
    lines: Path, tmp_path: Path
) -> None:
    recipe = on_live_data(tiny_recipe(), "rec,res,reg", [f"jsonl:{lines}"], tmp_path / "index")
    assert recipe.stages[0].data == LiveData(
        (f"jsonl:{lines}",), "rec,res,reg", str(tmp_path / "index"), turns=4, row_tokens=128
    )
    stage = replace(recipe.stages[0], steps=4)
    recipe = replace(recipe, stages=(stage,), checkpoint_every=2, log_every=1)

    def stop(row: dict[str, float]) -> None:
        if row["step"] == 3:
            raise InterruptedError

    train(recipe, tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(recipe, tmp_path / "parts", report=stop)
    train(recipe, tmp_path / "parts", resume=True)
    whole, again = (
        (tmp_path / name / "model" / "model.safetensors").read_bytes()
        for name in ("whole", "parts")
    )
    assert whole == again


def test_rules_and_sources_can_be_overridden(lines: Path, tmp_path: Path) -> None:
    recipe = on_live_data(tiny_recipe(), "rec", [f"jsonl:{lines}"], tmp_path)
    changed = apply_overrides(
        recipe,
        ["stages.0.data.rules=pink", 'stages.0.data.changed_rules=["absent_share=0.5"]'],
    )
    data = changed.stages[0].data
    assert isinstance(data, LiveData)
    assert (data.rules, data.changed_rules) == ("pink", ("absent_share=0.5",))
    _, processor = tiny_model()
    with pytest.raises(RecipeError, match="rules 'blue'"):
        RowBatches(processor, replace(data, rules="blue"), batch_size=2, start=0, stop=1)


def test_the_command_trains_on_annotations_and_resumes(
    deixis: Run, lines: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    small = ("--set", "stages.0.steps=2", "--set", "stages.0.batch_size=1")
    started = ("train", f"{_RECIPE}:tiny_recipe", "--out", out)
    ended = deixis(*started, "--mixture", "rec,count", *small)
    assert (ended.code, ended.err) == (
        2,
        "deixis: expected --data, or --mixture with at least one --source\n",
    )
    ended = deixis(*started, "--mixture", "rec,count", "--source", f"jsonl:{lines}")
    assert ended.code == 0, ended.err
    assert (out / "index").is_dir()
    assert deixis(*started, "--resume").code == 0
