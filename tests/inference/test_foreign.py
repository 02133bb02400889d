"""Errors for paths that are not a saved deixis model; every hint is tried."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from encoders import small_config
from languages import language_folder
from released import release
from tiny import tiny_choice, tiny_recipe
from transformers import AutoModel

from deixis.errors import CheckpointError, ModelError
from deixis.inference import load
from deixis.inference.load import WEIGHTS
from deixis.recipes import apply_overrides
from deixis.training.build import build_model

OURS = json.loads((WEIGHTS / "scenes-tiny" / "config.json").read_text())


def described(folder: Path, **fields: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


@pytest.mark.parametrize(
    ("fields", "what", "hint"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, "a text encoder", "describer="),
        ({"model_type": "sam"}, "a segmenter", "--set model.decoders.segmenter.segmenter="),
        ({"model_type": "grounding-dino"}, "a detector", "--detector "),
        ({"model_type": "vitpose"}, "a pose model", "--pose "),
        ({"model_type": "qwen2"}, "a language model", "model.language="),
        ({"model_type": "qwen3_vl"}, "a vision-language model", "model.aligned="),
        ({"model_type": "siglip_vision_model"}, "an image encoder", "model.vision="),
        (
            {"model_type": "siglip", "vision_config": {"model_type": "siglip_vision_model"}},
            "an image encoder",
            "model.vision=",
        ),
    ],
)
def test_a_model_of_another_kind_is_named_with_its_use(
    tmp_path: Path, fields: dict[str, Any], what: str, hint: str
) -> None:
    folder = described(tmp_path, **fields)
    message = f"is {what} of type '{fields['model_type']}'; expected a saved deixis model\nhint: "
    with pytest.raises(ModelError, match=re.escape(message)) as raised:
        load(folder)
    assert hint in str(raised.value)
    assert str(folder) in str(raised.value).splitlines()[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}',
            "is a model of transformers of type 'whisper', which deixis cannot use; expected",
        ),
        ('{"model_type": "gemma3", "vision_config": {"model_type": "x"}}', "which deixis cannot"),
        ('{"model_type": "homemade"}', "is a model of type 'homemade', which deixis cannot use"),
        ('{"hidden_size": 8}', "has the model_type None; expected 'deixis-pointing'"),
        ('{"model_type": ["llama"]}', r"has the model_type ['llama']; expected"),
        (json.dumps({**OURS, "notation": ["triplets"]}), "notation: expected a str, got ['triplet"),
        (json.dumps({**OURS, "marker_ids": 5}), "marker_ids: expected a dict, got 5"),
        (json.dumps({**OURS, "text_config": "x"}), "text_config: expected a dict, got 'x'"),
    ],
)
def test_a_configuration_of_another_model_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=re.escape(message)):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type":', "config.json cannot be read: Expecting value"),
        ("", "config.json cannot be read: Expecting value"),
        ("[" * 9000, "config.json cannot be read: maximum recursion depth"),
        ("[]", "config.json holds a list; expected the fields of a saved deixis model"),
    ],
)
def test_a_damaged_configuration_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load(tmp_path)


def test_binary_and_oversized_configurations_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read: 'utf-8' codec"):
        load(tmp_path)
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelError, match=r"config\.json is larger than 16777216 bytes"):
        load(tmp_path)


def test_a_field_that_transformers_fails_on_is_a_damaged_model(tmp_path: Path) -> None:
    described(tmp_path, **{**OURS, "dtype": "float33"})
    with pytest.raises(CheckpointError, match="no attribute 'float33'"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("weights"), "is a file; expected the folder of a saved"),
        (Path.mkdir, "is an empty folder; expected"),
        (
            lambda path: (path.mkdir(), (path / "adapter_config.json").touch()),
            "is adapters of PEFT; expected",
        ),
        (
            lambda path: (path.mkdir(), (path / "recipe.json").touch()),
            "is a training run without a model yet; expected",
        ),
        (
            lambda path: (path.mkdir(), (path / "report.json").touch()),
            "is published weights that deixis import wrote; expected",
        ),
        (
            lambda path: (path.mkdir(), (path / "open_clip_config.json").touch()),
            "is an OpenCLIP model; expected",
        ),
        (
            lambda path: (path.mkdir(), (path / "photo.jpg").touch()),
            "is a folder without config.json; expected",
        ),
    ],
)
def test_a_path_without_a_configuration_is_named(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "it")
    with pytest.raises(ModelError, match=re.escape(message)):
        load(tmp_path / "it")
    with pytest.raises(ModelError, match=re.escape(message)):
        load("scenes-tiny", adapters=tmp_path / "it")


def encoder_folder(folder: Path) -> None:
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = small_config("clip_vision_model", image_size=64, **shape)
    AutoModel.from_config(config).save_pretrained(folder)


@pytest.mark.parametrize("kind", ["language", "vision", "llava"])
def test_the_hint_leads_to_a_usable_model(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    make: dict[str, Callable[[Path], object]] = {
        "language": lambda path: language_folder("llama", path),
        "vision": encoder_folder,
        "llava": lambda path: release("llava", path),
    }
    make[kind](tmp_path)
    with pytest.raises(ModelError, match="hint: deixis train RECIPE") as raised:
        load(tmp_path)
    words = str(raised.value).splitlines()[1].split()
    changes = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
    recipe = tiny_recipe(model=replace(tiny_choice(), proposals=False))
    recipe = apply_overrides(recipe, ["model.tokens_from=encoder", *changes])
    model, _ = build_model(recipe)
    part = {"language": "language_model", "vision": "vision_encoder", "llava": "projector"}[kind]
    assert getattr(model, part) is not None
