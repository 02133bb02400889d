"""Published weights inside a model: what `deixis import` wrote, put where it belongs."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from models.decoders import official
from models.test_published import (
    DECODER,
    PYRAMID,
    WIDTH,
    clip,
    llama,
    pink,
    refvlm,
    sam,
    ullava,
)
from safetensors.torch import load_file, save_file
from tiny import tiny_model
from torch import nn

from deixis.errors import CheckpointError, ModelError
from deixis.inference import load
from deixis.models.decoders.keypoints import KeypointPredictions
from deixis.models.decoders.location import LocationConfig
from deixis.models.pointing import PointingVLM
from deixis.models.published import import_weights, load_imported
from deixis.models.published.loading import places_of
from deixis.models.references import LatentReferences
from deixis.models.regions import MASK_REGIONS, RegionEncodersConfig
from deixis.models.vision import SmallVisionConfig
from deixis.models.vision.pretrained import vision_config
from deixis.models.vision.pyramid import PyramidConfig
from deixis.processing.processor import Processor


def shape_of(model: nn.Module) -> dict[str, Any]:
    config: Any = model.config
    shape: dict[str, Any] = config.to_dict()
    return shape


def model_for(**changes: Any) -> tuple[PointingVLM, Processor]:
    """A model of the shapes of the small published ones, with a larger vocabulary."""
    language = {**shape_of(llama()), "vocab_size": 400}
    vision = vision_config(shape_of(clip()), image_size=28, layer=-2)
    return tiny_model(
        text_config=language,
        tokens_from="encoder",
        proposals=False,
        **{
            "vision": {"kind": "pretrained", **asdict(vision)},
            "projector": {"layers": 1},
            **changes,
        },
    )


def imported(system: str, folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    (folder / "source").mkdir()
    (folder / "parts").mkdir()
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "source" / "x.safetensors")
    import_weights(system, folder / "source", folder / "parts")
    return folder / "parts"


def test_pinks_weights_and_adapters_are_put_in_and_saved(tmp_path: Path) -> None:
    tensors = pink()
    parts = imported("pink", tmp_path, tensors)
    model, processor = model_for()
    before = model.get_parameter("language_model.lm_head.weight").detach().clone()
    loaded = {one.part: one for one in load_imported(model, parts)}
    assert set(loaded) == {
        *("language_model", "vision_encoder", "projector", "language_adapters", "vision_adapters")
    }
    assert loaded["projector"].taken == 2
    assert not any(one.stay for one in loaded.values())
    # rows of our markers stay as they are
    head = model.get_parameter("language_model.lm_head.weight")
    assert torch.equal(head[:40], tensors["lm_head.weight"])
    assert torch.equal(head[40:], before[40:])
    adapter = model.get_submodule("language_model.model.layers.1.self_attn.adapter")
    assert isinstance(adapter, nn.Module)
    key = "model.layers.1.adapter_attn.tune_adapter_b.weight"
    assert torch.equal(dict(adapter.named_parameters())["up.weight"], tensors[key])
    # the last layer, which is not read, has none
    assert not hasattr(
        model.get_submodule("vision_encoder.model.encoder.layers.2.self_attn"), "adapter"
    )
    assert model.config.tuning.keys() == {"language_model", "vision_encoder"}
    model.save_pretrained(tmp_path / "model")
    processor.save(tmp_path / "model")
    again = load(tmp_path / "model", device="cpu").model
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


def test_ullavas_decoders_take_their_weights_and_keep_our_estimates(tmp_path: Path) -> None:
    tensors = ullava()
    parts = imported("ullava", tmp_path, tensors)
    decoders = {
        "location": asdict(LocationConfig(width=16)),
        "segmenter": {"segmenter": shape_of(sam())},
    }
    model, _ = model_for(box_decoder=None, mask_decoder=None, decoders=decoders)
    loaded = {one.part: one for one in load_imported(model, parts)}
    assert loaded["location_decoder"].place == "box_decoder"
    assert loaded["prompted_decoder"].place == "mask_decoder"
    # the published decoders do not say how sure they are
    for part in ("location_decoder", "prompted_decoder"):
        assert loaded[part].stay
        assert all("estimate" in name or "quality" in name for name in loaded[part].stay), part
    last = model.get_parameter("box_decoder.last.weight")
    assert torch.equal(last, tensors["det_decoder.4.weight"])


def test_what_does_not_fit_is_refused_by_its_name(tmp_path: Path) -> None:
    parts = imported("pink", tmp_path, pink())
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
    model, _ = model_for(mask_decoder=None, box_decoder=None)
    with pytest.raises(ModelError, match=r"expected a model with a (box|mask)_decoder for it"):
        load_imported(model, parts)


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
    """A model of the shapes of the small published REF-VLM, with an encoder of its pyramid."""
    vision = SmallVisionConfig(image_size=64, widths=PYRAMID, blocks=(1, 1), layers=1, heads=2)
    regions = RegionEncodersConfig({"mask": MASK_REGIONS["code"]})
    return model_for(
        **{
            "vision": asdict(vision),
            "projector": {},
            "concepts": [],
            "box_decoder": {**DETR, "num_queries": 5},
            "mask_decoder": {**DETR, "num_queries": 3},
            "decoders": {"keypoint": {**DETR, **BODIES}},
            "pixel_decoder": {"width": 32, "cells": "coarsest"},
            "pixel_width": 32,
            "regions": regions.to_json(),
            "mask_target": "canvas",
            **changes,
        }
    )


@torch.no_grad()
def test_refvlms_decoders_take_their_weights_and_decode_as_the_public_code(tmp_path: Path) -> None:
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
    model.save_pretrained(tmp_path / "model")
    processor.save(tmp_path / "model")
    again = load(tmp_path / "model", device="cpu").model
    seen = again.see(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)) * 2 - 1)
    states = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(4))
    filled = torch.ones(2, 3, dtype=torch.bool)
    units = again.decode(LatentReferences(states, filled, filled.long()), seen)
    state = official.below(tensors, "visual_decoder.box.")
    _, boxes = official.boxes(state, states, seen.pyramid)
    assert units.boxes is not None
    official.close(units.boxes.boxes, boxes[:, :3])
    state = official.below(tensors, "visual_decoder.mask.")
    masks = official.masks(state, states, seen.pyramid)
    assert units.masks is not None
    official.close(units.masks.logits, masks[:, :3])
    state = official.below(tensors, "visual_decoder.pose.")
    bodies = official.bodies(state, states, seen.pyramid)
    found = units.more["keypoint"].decoded
    assert isinstance(found, KeypointPredictions)
    official.close(found.positions, bodies["joints"][:, :3])
    official.close(found.boxes[1], bodies["box"][:, :3])


def test_decoders_of_another_design_take_no_published_weights(tmp_path: Path) -> None:
    parts = imported("refvlm", tmp_path, refvlm())
    own = {"width": DECODER, "heads": 2, "hidden": 24, "layers": 2, "anchored": False}
    model, _ = model_for_refvlm(box_decoder=own)
    message = "imported part box_decoder: expected a model whose box_decoder has the design detr"
    with pytest.raises(ModelError, match=message):
        load_imported(model, parts)


def test_clips_weights_go_into_the_vit_of_a_pyramid() -> None:
    shape = vision_config(shape_of(clip()), image_size=28, layer=-2)
    vision = PyramidConfig(shape, None, (0,))
    model, _ = model_for(vision={"kind": "pyramid", **vision.to_dict()})
    assert places_of(model, "vision_encoder") == "vision_encoder.vit"
