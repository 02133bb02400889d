import json
from pathlib import Path
from typing import Any

import pytest
import torch
from closeness import assert_same_outputs
from encoders import SMALL, VIT, canvases, small_encoder
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, PreTrainedModel

from deixis.errors import CheckpointError, ModelError
from deixis.models.vision.loading import (
    ENCODER_PRESETS,
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_WEIGHTS,
    convert_open_clip_convnext,
    load_encoder,
    open_clip_convnext_config,
)
from deixis.models.vision.normalisation import CLIP, IMAGENET
from deixis.models.vision.pretrained import PretrainedEncoder


def saved(kind: str, folder: Path) -> PretrainedEncoder:
    encoder = small_encoder(kind)
    encoder.model.save_pretrained(folder)
    return encoder


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_a_saved_encoder_is_loaded_frozen_with_the_same_features(kind: str, tmp_path: Path) -> None:
    encoder = saved(kind, tmp_path)
    loaded = load_encoder(tmp_path)
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not loaded.model.training
    pixels = canvases(2, encoder.config.image_size)
    assert_same_outputs(loaded(pixels).tokens, encoder(pixels).tokens)


def test_the_vision_part_of_a_whole_clip_is_found(tmp_path: Path) -> None:
    torch.manual_seed(0)
    text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 20}
    whole = CLIPModel(CLIPConfig(vision_config=VIT, text_config={**text, "num_attention_heads": 2}))
    whole.train(mode=False)
    whole.save_pretrained(tmp_path)
    # as in the files on the hub
    names = load_file(tmp_path / "model.safetensors")
    assert {name.split(".")[0] for name in names} >= {"vision_model", "text_model"}
    loaded = load_encoder(tmp_path, layer=-1)
    pixels = canvases(1, 32)
    expected = whole.vision_model(CLIP.from_signed(pixels)).last_hidden_state
    assert torch.allclose(loaded(pixels).tokens, expected[:, 1:], atol=1e-6)


def test_preprocessing_constants_are_read_beside_the_weights(tmp_path: Path) -> None:
    saved("siglip_vision_model", tmp_path)
    described = {"image_mean": list(IMAGENET.mean), "image_std": list(IMAGENET.std)}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(described))
    assert load_encoder(tmp_path).normalisation == IMAGENET


def test_choices_at_loading_reach_the_encoder(tmp_path: Path) -> None:
    saved("clip_vision_model", tmp_path)
    encoder = load_encoder(
        tmp_path,
        image_size=64,
        layer="last",
        class_token=True,
        pyramid=((1, 1.0),),
        dtype=torch.bfloat16,
    )
    features = encoder(canvases(1, 64))
    assert features.tokens.shape == (1, 65, 32)
    assert features.tokens.dtype == torch.bfloat16
    assert [tuple(level.shape) for level in features.pyramid] == [(1, 32, 8, 8)]


def timm_names(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Return the ConvNeXt of transformers under timm's names, written out by hand."""
    names = {}
    for name, weight in model.state_dict().items():
        parts = name.split(".")
        match parts:
            case ["embeddings", "patch_embeddings", last]:
                new = f"stem.0.{last}"
            case ["embeddings", "layernorm", last]:
                new = f"stem.1.{last}"
            case ["layernorm", last]:
                new = f"head.norm.{last}"
            case ["encoder", "stages", stage, "downsampling_layer", index, last]:
                new = f"stages.{stage}.downsample.{index}.{last}"
            case ["encoder", "stages", stage, "layers", block, "layer_scale_parameter"]:
                new = f"stages.{stage}.blocks.{block}.gamma"
            case ["encoder", "stages", stage, "layers", block, part, last]:
                timm = {"dwconv": "conv_dw", "layernorm": "norm", "pwconv1": "mlp.fc1"}
                new = f"stages.{stage}.blocks.{block}.{timm.get(part, 'mlp.fc2')}.{last}"
            case _:
                raise AssertionError(name)
        names[f"visual.trunk.{new}"] = weight.clone()
    return names


def open_clip_folder(folder: Path, encoder: PretrainedEncoder) -> dict[str, torch.Tensor]:
    weights = timm_names(encoder.model)
    others = {"logit_scale": torch.ones(1), "visual.head.mlp.fc1.weight": torch.ones(2, 2)}
    save_file({**weights, **others}, folder / OPEN_CLIP_WEIGHTS)
    fields = {
        "model_cfg": {"embed_dim": 8, "vision_cfg": {"image_size": 64}},
        "preprocess_cfg": {"mean": list(CLIP.mean), "std": list(CLIP.std)},
    }
    (folder / OPEN_CLIP_CONFIG).write_text(json.dumps(fields))
    return weights


def test_open_clip_convnext_weights_are_renamed_for_transformers(tmp_path: Path) -> None:
    encoder = small_encoder("convnext", normalisation=CLIP)
    open_clip_folder(tmp_path, encoder)
    loaded = load_encoder(tmp_path)
    assert loaded.normalisation == CLIP
    pixels = canvases(1, 64)
    for mine, theirs in zip(loaded(pixels).pyramid, encoder(pixels).pyramid, strict=True):
        assert_same_outputs(mine, theirs)
    larger = load_encoder(tmp_path, image_size=96)
    assert larger.grids == (24, 12, 6, 3)


def test_the_shape_of_an_open_clip_convnext_is_inferred_from_its_weights() -> None:
    encoder = small_encoder("convnext")
    config = open_clip_convnext_config(timm_names(encoder.model))
    assert config.hidden_sizes == [8, 16, 24, 32]
    assert config.depths == [1, 1, 2, 1]


def test_open_clip_weights_of_other_models_are_refused() -> None:
    with pytest.raises(ModelError, match="expected a ConvNeXt trunk"):
        open_clip_convnext_config({"visual.conv1.weight": torch.ones(1)})
    with pytest.raises(ModelError, match=r"unknown weight visual\.trunk\.odd"):
        convert_open_clip_convnext({"visual.trunk.odd": torch.ones(1)})


def test_missing_damaged_and_unsafe_weights_are_refused(tmp_path: Path) -> None:
    saved("clip_vision_model", tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    kept = {name: w for name, w in weights.items() if not name.endswith("q_proj.weight")}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"3 weights are missing, among them .*q_proj"):
        load_encoder(tmp_path)
    file.write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="encoder "):
        load_encoder(tmp_path)
    file.unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
    with pytest.raises(CheckpointError, match="encoder "):
        load_encoder(tmp_path)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    saved("clip_vision_model", tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, "hidden_size": 64}))
    with pytest.raises(CheckpointError, match="encoder "):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing", "unknown encoder 'nothing'; expected one of"), ("a b", "unknown encoder 'a b'")],
)
def test_unknown_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_encoder(name)


def test_folders_without_an_encoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="folder without config"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="encoder "):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="unknown kind of image encoder 'llama'"):
        load_encoder(tmp_path)


def test_a_configuration_cannot_run_code(tmp_path: Path) -> None:
    saved("clip_vision_model", tmp_path)
    fields: dict[str, Any] = json.loads((tmp_path / "config.json").read_text())
    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(f"open({str(canary)!r}, 'w')")
    fields["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert load_encoder(tmp_path).num_tokens == 16
    assert not canary.exists()


def test_presets_have_valid_layers_and_sizes() -> None:
    assert ENCODER_PRESETS["clip-vit-l-14-336"].image_size == 336
    for name, preset in ENCODER_PRESETS.items():
        patch = 16 if "16" in name.split("-") else 14 if "14" in name.split("-") else 32
        assert preset.image_size % patch == 0, name
