"""Loading weights that `deixis import` wrote into a model."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from encoders import small_config
from languages import language_folder
from models.decoders import official
from models.test_published import (
    DECODER,
    PYRAMID,
    WIDTH,
    clip,
    linears,
    llama,
    pink,
    refvlm,
    sam,
    state,
    ullava,
)
from safetensors.torch import load_file, save_file
from tiny import tiny_model, tiny_recipe
from torch import nn

from deixis.errors import CheckpointError, ModelError
from deixis.geometry import Box, ImageSize
from deixis.inference import load
from deixis.models.decoders import BoxPredictions, MaskPredictions
from deixis.models.decoders.keypoints import KeypointPredictions
from deixis.models.decoders.location import LocationConfig, LocationPredictions
from deixis.models.pointing import PointingVLM, training_attention
from deixis.models.published import (
    Activation,
    import_weights,
    load_imported,
    read_activation,
    read_report,
)
from deixis.models.published.loading import places_of
from deixis.models.references import LatentReferences, route_references
from deixis.models.regions import MASK_REGIONS, RegionEncodersConfig
from deixis.models.vision import SmallVisionConfig
from deixis.models.vision.pretrained import vision_config
from deixis.models.vision.pyramid import PyramidConfig
from deixis.notation import Marker
from deixis.processing.batch import collate
from deixis.processing.processor import Processor
from deixis.recipes import load_recipe
from deixis.structures import Conversation, GroundedPhrase, GroundedText, Reference, Turn, UnitGroup
from deixis.training import EncoderChoice, ModelChoice
from deixis.training.build import build_model


def shape_of(model: nn.Module) -> dict[str, Any]:
    config: Any = model.config
    shape: dict[str, Any] = config.to_dict()
    return shape


MARKERS = {marker.value: 50 + number for number, marker in enumerate(Marker)}
"""Markers after the 40 tokens of the published vocabularies, as in an extended tokenizer."""


def model_for(**changes: Any) -> tuple[PointingVLM, Processor]:
    """Build a model of the shapes of the small published ones, with a larger vocabulary."""
    language = {**shape_of(llama()), "vocab_size": 400}
    vision = vision_config(shape_of(clip()), image_size=28, layer=-2)
    return tiny_model(
        tokens_from="encoder",
        proposals=False,
        **{
            "text_config": language,
            "vision": {"kind": "pretrained", **asdict(vision)},
            "projector": {"layers": 1},
            "marker_ids": MARKERS,
            **changes,
        },
    )


def imported(
    system: str,
    folder: Path,
    tensors: dict[str, torch.Tensor],
    *,
    config: dict[str, Any] | None = None,
    activation: Activation | None = None,
) -> Path:
    (folder / "source").mkdir()
    (folder / "parts").mkdir()
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "source" / "x.safetensors")
    if config is not None:
        (folder / "source" / "config.json").write_text(json.dumps(config))
    import_weights(system, folder / "source", folder / "parts", activation=activation)
    return folder / "parts"


def test_weights_and_adapters_of_pink_are_loaded_and_saved(tmp_path: Path) -> None:
    tensors = pink()
    parts = imported("pink", tmp_path, tensors, activation="identity")
    model, processor = model_for()
    before = model.get_parameter("language_model.lm_head.weight").detach().clone()
    loaded = {one.part: one for one in load_imported(model, parts)}
    assert set(loaded) == {
        *("language_model", "vision_encoder", "projector", "language_adapters", "vision_adapters")
    }
    assert loaded["projector"].taken == 2
    assert not any(one.stay for one in loaded.values())
    # rows of the model's markers are unchanged
    head = model.get_parameter("language_model.lm_head.weight")
    assert torch.equal(head[:40], tensors["lm_head.weight"])
    assert torch.equal(head[40:], before[40:])
    adapter = model.get_submodule("language_model.model.layers.1.self_attn.adapter")
    assert isinstance(adapter, nn.Module)
    key = "model.layers.1.adapter_attn.tune_adapter_b.weight"
    assert torch.equal(dict(adapter.named_parameters())["up.weight"], tensors[key])
    # the last layer, which is not read, has no adapter
    assert not hasattr(
        model.get_submodule("vision_encoder.model.encoder.layers.2.self_attn"), "adapter"
    )
    assert model.config.tuning.keys() == {"language_model", "vision_encoder"}
    # the tokenizer's own numbers of markers, which a saved model has to have
    model.config.marker_ids = {one.value: at for one, at in processor.tokenizer.marker_ids.items()}
    model.save_pretrained(tmp_path / "model")
    processor.save(tmp_path / "model")
    again = load(tmp_path / "model", device="cpu").model
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


def test_decoders_of_ullava_load_their_weights_and_keep_quality_estimates(tmp_path: Path) -> None:
    tensors = ullava()
    parts = imported("ullava", tmp_path, tensors)
    decoders = {
        "location": asdict(LocationConfig(width=16)),
        "segmenter": {"segmenter": shape_of(sam())},
    }
    model, _ = model_for(decoders=decoders)
    loaded = {one.part: one for one in load_imported(model, parts)}
    assert loaded["location_decoder"].place == "box_decoder"
    assert loaded["prompted_decoder"].place == "mask_decoder"
    # the published decoders have no quality estimate
    for part in ("location_decoder", "prompted_decoder"):
        assert loaded[part].stay
        assert all("estimate" in name or "quality" in name for name in loaded[part].stay), part
    last = model.get_parameter("box_decoder.last.weight")
    assert torch.equal(last, tensors["det_decoder.4.weight"])


def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    parts = imported("pink", tmp_path, pink(), activation="identity")
    model, _ = model_for(projector={"layers": 2})
    projector = parts / "projector.safetensors"
    cut = {name: tensor[:3].contiguous() for name, tensor in load_file(projector).items()}
    save_file(cut, projector)
    with pytest.raises(CheckpointError, match=r"part projector: layers\.0\.\w+: expected \(\d+"):
        load_imported(model, parts)
    with pytest.raises(CheckpointError, match=r"imported weights .*report\.json"):
        load_imported(model, tmp_path)


def test_a_part_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    parts = imported("ullava", tmp_path, ullava())
    model, _ = model_for(decoders={})
    with pytest.raises(ModelError, match=r"expected a model with a (box|mask)_decoder for it"):
        load_imported(model, parts)


@pytest.mark.parametrize("activation", ["identity", "silu"])
def test_language_adapters_of_pink_have_the_activation_of_the_config(
    tmp_path: Path, activation: str
) -> None:
    tensors = pink()
    config = {"adapter_non_linear": activation == "silu"}
    parts = imported("pink", tmp_path, tensors, config=config)
    model, _ = model_for()
    load_imported(model, parts)
    state = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    place = "model.layers.1.adapter_attn.tune_adapter_"
    down, up = (
        (tensors[f"{place}{name}.weight"], tensors[f"{place}{name}.bias"]) for name in ("a", "b")
    )
    narrow = state @ down[0].T + down[1]
    narrow = narrow * narrow.sigmoid() if activation == "silu" else narrow
    expected = state + narrow @ up[0].T + up[1]
    adapter = model.get_submodule("language_model.model.layers.1.self_attn.adapter")
    assert torch.allclose(adapter(state), expected, atol=1e-6)
    # in the public code, adapters of the vision encoder have no activation
    adapters = model.get_submodule("vision_encoder.model.encoder.layers.0.self_attn.adapter")
    assert isinstance(adapters.get_submodule("activation"), nn.Identity)


def test_an_unknown_activation_of_adapters_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"tensors do not determine.*\nhint: --activation identity"
    ):
        imported("pink", tmp_path, pink())
    folder = tmp_path / "source"
    (folder / "config.json").write_text('{"adapter_non_linear": true}')
    with pytest.raises(CheckpointError, match=r"config\.json says silu, got --activation identity"):
        import_weights("pink", folder, tmp_path / "parts", activation="identity")
    (folder / "config.json").write_text('{"adapter_non_linear": "yes"}')
    with pytest.raises(CheckpointError, match="adapter_non_linear: expected true or false"):
        import_weights("pink", folder, tmp_path / "parts")
    with pytest.raises(ModelError, match="weights of refvlm have no adapters"):
        import_weights("refvlm", folder, tmp_path / "parts", activation="silu")
    with pytest.raises(ModelError, match="activation 'gelu': expected one of"):
        read_activation("gelu")
    # reports of earlier versions have no activation
    (folder / "config.json").write_text('{"adapter_non_linear": true}')
    import_weights("pink", folder, tmp_path / "parts")
    told = json.loads((tmp_path / "parts" / "report.json").read_text())
    del told["settings"]
    (tmp_path / "parts" / "report.json").write_text(json.dumps(told))
    with pytest.raises(
        CheckpointError, match=r"expected activation identity or silu.*\nhint: import"
    ):
        load_imported(model_for()[0], tmp_path / "parts")


def test_a_model_with_more_layers_than_the_weights_is_refused(tmp_path: Path) -> None:
    tensors = {k: v for k, v in ullava().items() if k.startswith("llm.")}
    parts = imported("ullava", tmp_path, tensors)
    language = {**shape_of(llama()), "vocab_size": 400, "num_hidden_layers": 3}
    with pytest.raises(CheckpointError, match="weights of 2 layers, the model has 3"):
        load_imported(model_for(text_config=language)[0], parts)


def test_unnamed_rows_do_not_overwrite_markers(tmp_path: Path) -> None:
    parts = imported("ullava", tmp_path, {k: v for k, v in ullava().items() if "llm." in k})
    model, _ = model_for(marker_ids={**MARKERS, "<SEG>": 39})
    with pytest.raises(CheckpointError, match=r"row 39 of 40 .* is the marker <SEG> here\nhint: "):
        load_imported(model, parts)
    told = json.loads((parts / "report.json").read_text())
    told["tokens"] = {"[LOC]": 38, "[SEG]": 37, "<image_patch>": 39, "<s>": 1}
    (parts / "report.json").write_text(json.dumps(told))
    (loaded,) = [one for one in load_imported(model, parts) if one.part == "language_model"]
    assert loaded.no_row == ("<image_patch>",)
    table = load_file(parts / "language_model.safetensors")["lm_head.weight"]
    head = model.get_parameter("language_model.lm_head.weight")
    assert torch.equal(head[39], table[37])
    assert torch.equal(head[MARKERS["<LOC>"]], table[38])
    assert torch.equal(head[:37], table[:37])


ADDED = (
    *("<image_patch>", "<video_patch>", "<img_beg>", "</img_end>", "<vid_beg>", "</vid_end>"),
    *("[SEG]", "[LOC]", "[tag]", "[/tag]"),
)
"""Tokens that u-LLaVA's public code adds to LLaMA's, in its order."""
IMAGE = np.random.default_rng(0).integers(0, 255, (40, 80, 3), dtype=np.uint8)
SIZE = ImageSize(40, 80)


def download(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Write a published checkpoint that fits the language model and CLIP in the folder."""
    language_folder("llama", folder / "vicuna")
    clip_config: Any = small_config("clip_vision_model")
    torch.manual_seed(3)
    transformers.CLIPVisionModel(clip_config).save_pretrained(folder / "clip")
    base = transformers.AutoConfig.from_pretrained(folder / "vicuna")
    numbers = {token: base.vocab_size + at for at, token in enumerate(ADDED)}
    config = transformers.LlamaConfig(
        **{**base.to_dict(), "vocab_size": base.vocab_size + len(ADDED)}
    )
    width, visual = base.hidden_size, clip_config.hidden_size
    tensors = (
        state(transformers.LlamaForCausalLM(config), "llm.")
        | state(transformers.CLIPVisionModel(clip_config), "llm.vision_encoder.vision_model.")
        | state(nn.Linear(visual, width), "llm.vision_projector.")
        | linears("det_projector.", (width, width), (width, 16))
        | linears("det_decoder.", (16, 16), (16, 8), (8, 4))
    )
    tensors = {key: value + 0.05 * torch.randn_like(value) for key, value in tensors.items()}
    source = folder / "source"
    source.mkdir()
    torch.save(tensors, source / "pytorch_model.bin")
    (source / "added_tokens.json").write_text(json.dumps(numbers))
    return tensors, numbers


def test_a_published_checkpoint_of_ullava_points_like_its_code(tmp_path: Path) -> None:
    tensors, numbers = download(tmp_path)
    (tmp_path / "parts").mkdir()
    report = import_weights("ullava", tmp_path / "source", tmp_path / "parts")
    assert report.settings == {"offset": "prev"}
    assert report.tokens == numbers
    assert read_report(tmp_path / "parts").tokens == numbers
    drawn = load_recipe("ullava_scenes").model
    assert isinstance(drawn, ModelChoice)
    choice = replace(
        drawn,
        language=str(tmp_path / "vicuna"),
        vision=EncoderChoice(str(tmp_path / "clip"), layer=-2),
        notation="tokens_code",
        decoders={"location": LocationConfig(width=16)},
        imported=str(tmp_path / "parts"),
    )
    model, processor = build_model(tiny_recipe(model=choice))
    model.train(mode=False)
    assert model.config.offset == "prev"
    box = Box(10, 10, 30, 30)
    dog = GroundedPhrase("dog", 0, 3, (UnitGroup(("box",), (Reference((box,)),)),))
    row = processor.row(
        Conversation("q", IMAGE, SIZE, (Turn(("Where?",), GroundedText("dog", (dog,))),))
    )
    batch = collate([row], pad_id=processor.tokenizer.pad_id)
    ids = batch.input_ids[0].tolist()
    vocabulary = processor.tokenizer.tokenizer.get_vocab()
    words = [next(text for text, number in vocabulary.items() if number == each) for each in ids]
    assert words[-2] == "[LOC]"
    assert [word for word in words if word.startswith("[")] == ["[tag]", "[/tag]", "[LOC]"]
    first = words.index("<img_beg>")
    count = words.index("</img_end>") - first - 1
    assert words[first + 1 : first + 1 + count] == ["<image>"] * count == ["<image>"] * 16

    # the public code's forward pass, with its own numbers of tokens
    table = tensors["llm.model.embed_tokens.weight"]
    rows = []
    own = model.language_model.get_input_embeddings().get_parameter("weight")
    for number, word in zip(ids, words, strict=True):
        published = numbers.get(word, number if number < len(table) - len(ADDED) else None)
        rows.append(own[number] if published is None else table[published])
    embedded = torch.stack(rows)
    with torch.no_grad():
        patches = model.vision_encoder(batch.pixel_values).tokens[0]
        embedded[first + 1 : first + 1 + count] = (
            patches @ tensors["llm.vision_projector.weight"].T
            + tensors["llm.vision_projector.bias"]
        )
        config = transformers.AutoConfig.from_pretrained(tmp_path / "vicuna")
        config.vocab_size = len(table)
        reference = transformers.LlamaForCausalLM(config).eval()
        reference.load_state_dict(
            {k[4:]: v for k, v in tensors.items() if k.startswith(("llm.model.", "llm.lm_head."))}
        )
        hidden: torch.Tensor = reference.model(inputs_embeds=embedded[None]).last_hidden_state[0]

        def boxed(at: int) -> torch.Tensor:
            value: torch.Tensor = hidden[at]
            for name, bends in (
                *(("det_projector.0", True), ("det_projector.2", False)),
                *(("det_decoder.0", True), ("det_decoder.2", True), ("det_decoder.4", False)),
            ):
                value = value @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
                value = value.relu() if bends else value
            return value

        place = words.index("[LOC]")
        seen = model.see(batch.pixel_values)
        read = model.read(
            model.embed(batch.input_ids, seen, batch.regions),
            batch.positions,
            training_attention(batch.turns, batch.independent),
        )
        marked = batch.input_ids == processor.tokenizer.marker_ids[Marker.LOCATION]
        latent = route_references(read, marked, batch.turns, offset=model.config.offset)
        decoded = model.decode(latent, seen).units["box"].decoded
    assert isinstance(decoded, LocationPredictions)
    found = decoded.corners[0, 0]
    assert torch.allclose(found, boxed(place - 1), atol=1e-5)
    assert (boxed(place) - found).abs().max() > 1e-3
    # a chosen offset takes precedence over that of the import
    model, _ = build_model(tiny_recipe(model=replace(choice, offset="at")))
    assert model.config.offset == "at"


DETR: dict[str, Any] = {
    "width": DECODER,
    "heads": 2,
    "hidden": 24,
    "layers": 2,
    "anchored": False,
    "design": "detr",
    "dropout": 0.1,
}
BODIES = {"joint_layers": 2, "from_box": False, "levels": 2, "num_queries": 4, "loss": "code"}


def model_for_refvlm(**changes: Any) -> tuple[PointingVLM, Processor]:
    """Build a model of the shapes of the small published REF-VLM, with its pyramid encoder."""
    vision = SmallVisionConfig(image_size=64, widths=PYRAMID, blocks=(1, 1), layers=1, heads=2)
    regions = RegionEncodersConfig({"mask": MASK_REGIONS["code"]})
    return model_for(
        **{
            "vision": asdict(vision),
            "projector": {},
            "concepts": [],
            "decoders": {
                "box": {**DETR, "num_queries": 5},
                "mask": {**DETR, "num_queries": 3},
                "keypoint": {**DETR, **BODIES},
            },
            "pixel_decoder": {"width": 32, "cells": "coarsest"},
            "pixel_width": 32,
            "regions": regions.to_json(),
            "mask_target": "canvas",
            **changes,
        }
    )


@torch.no_grad()
def test_decoders_of_refvlm_load_their_weights_and_decode_like_the_public_code(
    tmp_path: Path,
) -> None:
    tensors = official.lively(refvlm())
    parts = imported("refvlm", tmp_path, tensors)
    model, processor = model_for_refvlm()
    loaded = {one.part: one for one in load_imported(model, parts)}
    assert {one.part: one.place for one in loaded.values()} == {
        "language_model": "language_model",
        "projector": "projector",
        "region_encoder": "region_encoder",
        "box_decoder": "box_decoder",
        "mask_decoder": "mask_decoder",
        "pixel_decoder": "pixel_decoder",
        "pose_decoder": "keypoint_decoder",
    }
    assert sum(one.taken for one in loaded.values()) == len(tensors) - 1
    for one in loaded.values():
        assert all(name.startswith(("quality.", "estimate.")) for name in one.stay), one
    # the tokenizer's own numbers of markers, which a saved model has to have
    model.config.marker_ids = {one.value: at for one, at in processor.tokenizer.marker_ids.items()}
    model.save_pretrained(tmp_path / "model")
    processor.save(tmp_path / "model")
    again = load(tmp_path / "model", device="cpu").model
    seen = again.see(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1)
    states = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(4))
    filled = torch.ones(2, 3, dtype=torch.bool)
    units = again.decode(LatentReferences(states, filled, filled.long()), seen)
    state = official.below(tensors, "visual_decoder.box.")
    _, boxes = official.boxes(state, states, seen.pyramid)
    decoded = {unit: one.decoded for unit, one in units.units.items()}
    assert isinstance(decoded["box"], BoxPredictions)
    official.close(decoded["box"].boxes, boxes[:, :3])
    state = official.below(tensors, "visual_decoder.mask.")
    masks = official.masks(state, states, seen.pyramid)
    assert isinstance(decoded["mask"], MaskPredictions)
    official.close(decoded["mask"].logits, masks[:, :3])
    state = official.below(tensors, "visual_decoder.pose.")
    bodies = official.bodies(state, states, seen.pyramid)
    found = decoded["keypoint"]
    assert isinstance(found, KeypointPredictions)
    official.close(found.positions, bodies["joints"][:, :3])
    official.close(found.boxes[1], bodies["box"][:, :3])


def test_decoders_of_another_design_refuse_published_weights(tmp_path: Path) -> None:
    parts = imported("refvlm", tmp_path, refvlm())
    own = {"width": DECODER, "heads": 2, "hidden": 24, "layers": 2, "anchored": False}
    model, _ = model_for_refvlm(more={"box": own})
    message = "imported part box_decoder: expected a model whose box_decoder has the design detr"
    with pytest.raises(ModelError, match=message):
        load_imported(model, parts)


def test_clip_weights_are_loaded_into_the_vit_of_a_pyramid() -> None:
    shape = vision_config(shape_of(clip()), image_size=28, layer=-2)
    vision = PyramidConfig(shape, None, (0,))
    model, _ = model_for(vision={"kind": "pyramid", **vision.to_dict()})
    assert places_of(model, "vision_encoder") == "vision_encoder.vit"
