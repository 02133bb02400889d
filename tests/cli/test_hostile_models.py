"""Names of models and folders of damaged models, given to every command that takes a MODEL."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Run
from PIL import Image
from safetensors.torch import load_file, save_file

TINY = Path(__file__).parents[1] / "tiny.py"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((60, 80, 3), 90, np.uint8)).save(path)
    return path


def commands(picture: Path, model: object, out: Path) -> dict[str, tuple[object, ...]]:
    return {
        "point": ("point", picture, "Where?", "--model", model),
        "eval": ("eval", model, "scenes/rec:val", "--limit", 1),
        "train": ("train", f"{TINY}:tiny_recipe", "--from", model, "--out", out / "run"),
        "bootstrap": (
            *("data", "bootstrap", model, "--source", "scenes:train,count=1"),
            *("--out", out / "made", "--min-area", 0),
        ),
    }


@pytest.mark.parametrize("command", ["point", "eval", "train", "bootstrap"])
@pytest.mark.parametrize(
    "name",
    [
        *("../nosuch", "a--b/c", "x" * 5000, "x\0y", "", "  ", ".", "/", "~/model", "a/../b"),
        *("a/b/c", "nosuch/", "\udcff/x", "-", "x\ny", "scenes-tiny/", "https://example.org/m"),
    ],
)
def test_an_unknown_model_is_a_one_line_error(
    deixis: Run, picture: Path, tmp_path: Path, command: str, name: str
) -> None:
    ended = deixis(*commands(picture, "--" if name == "-" else name, tmp_path)[command])
    assert ended.code == 2
    lines = [line for line in ended.err.splitlines() if not line.startswith(("hint: ", "train "))]
    assert len(lines) == 1, ended.err
    assert len(lines[0]) < 600
    assert not (tmp_path / "run" / "recipe.json").exists()


def changed(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(content)))

    return damage


def written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = {k: v.clone() for k, v in load_file(folder / "model.safetensors").items()}
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


WEIGHT = "vision_encoder.norm.weight"


def with_nan(tensors: dict[str, torch.Tensor]) -> None:
    name = sorted(tensors)[3]
    tensors[name].view(-1)[0] = float("nan")


def first(tensors: dict[str, torch.Tensor]) -> str:
    return min(name for name, tensor in tensors.items() if tensor.ndim == 2)


def no_vocabulary(content: Any) -> Any:
    content["model"] = {**content["model"], "vocab": {}, "merges": []}
    return content


def more_tokens(content: Any) -> Any:
    content["added_tokens"].append({**content["added_tokens"][0], "id": 9000, "content": "<new>"})
    return content


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "nan": (weights(with_nan), "holds a number that is not finite"),
    "cut": (
        lambda folder: (folder / "model.safetensors").write_bytes(
            (folder / "model.safetensors").read_bytes()[:-9]
        ),
        "model.safetensors: not a safetensors file, or damaged",
    ),
    "no weights": (written("model.safetensors", b""), "header of 0 bytes"),
    "gone": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "shape": (weights(lambda t: t.update({first(t): t[first(t)][:1].clone()})), "mismatched_keys"),
    "dtype": (weights(lambda t: t.update({first(t): t[first(t)].int()})), "got I32"),
    "missing": (weights(lambda t: t.pop(first(t))), "missing_keys"),
    "extra": (weights(lambda t: t.update(extra=torch.ones(1))), "unexpected_keys"),
    "no config": (written("config.json", b"{"), "config.json"),
    "config list": (written("config.json", b"[]"), ""),
    "config bytes": (written("config.json", b"\xff\xfe\x00"), "config.json"),
    "tokenizer cut": (written("tokenizer.json", b'{"version": "1.0"'), "tokenizer"),
    "tokenizer empty": (written("tokenizer.json", b""), "tokenizer"),
    "tokenizer list": (written("tokenizer.json", b"[]"), "tokenizer"),
    "tokenizer bytes": (written("tokenizer.json", b"\xff\x00"), "tokenizer"),
    "empty model": (changed("tokenizer.json", lambda c: {**c, "model": {}}), "tokenizer"),
    "empty vocabulary": (changed("tokenizer.json", no_vocabulary), "tokenizer"),
    "more tokens": (changed("tokenizer.json", more_tokens), "expected at most the"),
    "tokenizer config": (written("tokenizer_config.json", b"["), "tokenizer_config.json: damaged"),
    "tokenizer config list": (written("tokenizer_config.json", b"[]"), "expected an object"),
}


@pytest.fixture
def damaged(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_model_is_a_one_line_error(
    deixis: Run, picture: Path, tmp_path: Path, damaged: Path, kind: str
) -> None:
    damage, words = DAMAGE[kind]
    damage(damaged)
    ended = deixis(*commands(picture, damaged, tmp_path)["point"])
    assert ended.code == 7, ended.err
    told = [line for line in ended.err.splitlines() if line.startswith("deixis: ")]
    assert len(told) == 1
    assert words in told[0]
    assert str(damaged) in told[0]


@pytest.mark.parametrize("command", ["eval", "train", "bootstrap"])
@pytest.mark.parametrize("kind", ["nan", "empty vocabulary", "no config"])
def test_every_command_refuses_a_damaged_model(
    deixis: Run, picture: Path, tmp_path: Path, damaged: Path, command: str, kind: str
) -> None:
    damage, words = DAMAGE[kind]
    damage(damaged)
    ended = deixis(*commands(picture, damaged, tmp_path)[command])
    assert ended.code == 7, ended.err
    assert words in ended.err
    assert not (tmp_path / "run" / "recipe.json").exists()
