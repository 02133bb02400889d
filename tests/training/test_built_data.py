from dataclasses import replace
from pathlib import Path

import pytest
import torch
from annotated import line, plan_of, write_lines
from PIL import Image
from tiny import tiny_model, tiny_recipe

from deixis.data.build import build
from deixis.errors import AnnotationError
from deixis.recipes.overrides import apply_overrides
from deixis.training import BuiltData, on_built_data, train
from deixis.training.data import RowBatches


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("built")
    for number in range(10):
        Image.new("RGB", (200, 100), (25 * number, 90, 90)).save(root / f"{number:06d}.png")
    lines = write_lines(root / "lines.jsonl", [line(number) for number in range(10)])
    tasks = "rec,res,detection,reg,caption,gcg"
    build(plan_of(f"jsonl:{lines}", tasks=tasks, turns=4, check_images=True), root / "out")
    return root / "out"


def test_batches_of_shards_do_not_depend_on_ranks(built: Path) -> None:
    _, processor = tiny_model()
    data = BuiltData(str(built), seed=3)

    def ids(rank: int, world: int) -> list[torch.Tensor]:
        batches = RowBatches(processor, data, batch_size=4, start=2, stop=3, rank=rank, world=world)
        (batch,) = next(iter(batches))
        return list(batch.input_ids)

    whole = ids(0, 1)
    parts = [ids(0, 2), ids(1, 2)]
    for number, row in enumerate(whole):
        part = parts[number % 2][number // 2]
        shared = min(len(row), len(part))
        assert torch.equal(row[:shared], part[:shared])


def test_a_model_learns_from_shards_and_resumes(built: Path, tmp_path: Path) -> None:
    recipe = on_built_data(tiny_recipe(), built)
    recipe = replace(recipe, stages=(replace(recipe.stages[0], steps=4),))
    train(recipe, tmp_path / "whole")
    losses = (tmp_path / "whole" / "log.jsonl").read_text()
    assert losses.count("\n") >= 4
    assert "nan" not in losses.lower()


def test_a_recipe_takes_a_data_set_by_name(built: Path) -> None:
    recipe = on_built_data(tiny_recipe(), built)
    data = recipe.stages[0].data
    assert isinstance(data, BuiltData)
    assert data.folder == str(built)
    changed = apply_overrides(recipe, ["stages.0.data.seed=7"])
    assert changed.stages[0].data == replace(data, seed=7)


def test_a_missing_data_set_is_an_error(tmp_path: Path) -> None:
    _, processor = tiny_model()
    with pytest.raises(AnnotationError, match="no data set"):
        RowBatches(processor, BuiltData(str(tmp_path)), batch_size=2, start=0, stop=1)
