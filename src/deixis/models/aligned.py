"""Read a released vision-language model as encoder, projector and language model.

Modules are moved, not copied, so nothing is in memory twice. Every key is accounted for: unknown,
missing and misplaced keys are errors.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    PreTrainedConfig,
    PreTrainedModel,
)

from deixis.errors import CheckpointError, ModelError
from deixis.models.headed import build_language_model
from deixis.models.projector import Projector
from deixis.models.vision.kinds import write_vision
from deixis.models.vision.loading import read_normalisation
from deixis.models.vision.merging import MergingEncoder, MergingVisionConfig, merging_config
from deixis.models.vision.pretrained import (
    PretrainedEncoder,
    PretrainedVisionConfig,
    encoder_family,
    vision_config,
)
from deixis.models.weight_files import check_folder

CANVAS = 448
"""Canvas side for models of any image size: 16 x 16 merged patches of 14 px, 14 x 14 of 16 px."""


@dataclass(frozen=True, slots=True)
class AlignedFamily:
    """Names of the parts of a model type, and of its weights that are left out."""

    vision: str
    projector: str | None = None
    language: str = "model.language_model"
    left_out: tuple[str, ...] = ()


_NEWLINE = ("model.image_newline",)
"""Embedding of line ends for images in tiles; here the whole image is one canvas."""

ALIGNED_FAMILIES: Mapping[str, AlignedFamily] = MappingProxyType(
    {
        "llava": AlignedFamily("model.vision_tower", "model.multi_modal_projector"),
        "llava_next": AlignedFamily(
            "model.vision_tower", "model.multi_modal_projector", left_out=_NEWLINE
        ),
        "llava_onevision": AlignedFamily(
            "model.vision_tower", "model.multi_modal_projector", left_out=_NEWLINE
        ),
        "qwen2_vl": AlignedFamily("model.visual"),
        "qwen2_5_vl": AlignedFamily("model.visual"),
        "qwen3_vl": AlignedFamily("model.visual"),
    }
)
"""Supported families by model type."""


@dataclass(frozen=True, slots=True)
class AlignedParts:
    """Parts of `PointingVLM` with the weights of a released model.

    ``fields`` are the configuration fields for these parts.
    """

    vision_encoder: PretrainedEncoder | MergingEncoder
    projector: Projector | nn.Identity
    language_model: PreTrainedModel
    fields: Mapping[str, Any]

    def given(self) -> dict[str, Any]:
        """Return the parts by name, as arguments of `PointingVLM`."""
        return {
            "vision_encoder": self.vision_encoder,
            "projector": self.projector,
            "language_model": self.language_model,
        }


def read_aligned(
    folder: Path, *, image_size: int | None = None, dtype: torch.dtype = torch.float32
) -> AlignedParts:
    """Read a vision-language model of the LLaVA or Qwen-VL families from its folder.

    Args:
        folder: A model in the Hugging Face layout: ``config.json`` and safetensors files.
        image_size: Side of the canvas in pixels; by default that of the encoder, or `CANVAS` if it
            takes any size.
        dtype: Precision of the weights.

    Raises:
        ModelError: The model is of another family, or reads its encoder in an unsupported way.
        CheckpointError: Files are missing, damaged or not safetensors, or keys are unknown or
            missing.
    """
    config = _read_config(folder)
    family = ALIGNED_FAMILIES[config.model_type]
    own = read_normalisation(folder)
    vision: PretrainedVisionConfig | MergingVisionConfig
    if family.projector is None:
        size = CANVAS if image_size is None else image_size
        vision = merging_config(config.vision_config, image_size=size, normalisation=own)
    else:
        layer, class_token = _reading(config)
        vision = vision_config(
            config.vision_config,
            image_size=image_size,
            layer=layer,
            class_token=class_token,
            uneven=True,
            normalisation=own,
        )
    source = _load(folder, config, dtype)
    # the two levels of the configuration may differ; the outer one takes effect
    config.text_config.tie_word_embeddings = config.tie_word_embeddings
    with torch.device("meta"):
        encoder = (
            MergingEncoder(vision)
            if isinstance(vision, MergingVisionConfig)
            else PretrainedEncoder(vision)
        )
        language = build_language_model(config.text_config)
    _move(source.get_submodule(family.vision), encoder, "model")
    _move(source.get_submodule(family.language), language, language.base_model_prefix)
    _move(source.get_output_embeddings(), language, "lm_head")
    projector, shape = _projector(source, config, family)
    parts = AlignedParts(
        encoder,
        projector,
        language,
        {
            "text_config": language.config,
            "vision": write_vision(vision),
            "projector": shape,
        },
    )
    _check_complete(folder, source, parts, family.left_out)
    return parts


def _read_config(folder: Path) -> Any:
    try:
        stored = json.loads((folder / "config.json").read_text())
        kind = stored.get("model_type")
        if kind in ALIGNED_FAMILIES:
            return AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise CheckpointError(f"model {folder}: config.json: {_first(error)}") from error
    raise ModelError(f"model {folder} of type {kind!r}: expected one of {sorted(ALIGNED_FAMILIES)}")


def _reading(config: Any) -> tuple[int, bool]:
    """Return which layer of the encoder is read, and whether with its class token."""
    layer, strategy = config.vision_feature_layer, config.vision_feature_select_strategy
    if not isinstance(layer, int):
        raise ModelError(
            f"vision_feature_layer {layer}: expected a single layer of the encoder to be read"
        )
    kind = config.vision_config.model_type
    encoder = encoder_family(kind)
    before = encoder.prefix + int(getattr(config.vision_config, "num_register_tokens", 0))
    if encoder.cells != "patches" or before > 1 or (strategy == "default" and before == 0):
        raise ModelError(
            f"an encoder of type {kind} read by vision_feature_select_strategy {strategy!r}: "
            "expected patches behind one class token, or all tokens"
        )
    return layer, strategy == "full" and before == 1


def _load(folder: Path, config: PreTrainedConfig, dtype: torch.dtype) -> Any:
    check_folder(folder, f"model {folder}")
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"model {folder}: {_first(error)}") from error
    source, report = loaded
    wrong = {kind: sorted(map(str, keys)) for kind, keys in report.items() if keys}
    if wrong:
        told = "; ".join(f"{len(keys)} {kind}: {keys[0]}" for kind, keys in sorted(wrong.items()))
        raise CheckpointError(f"model {folder}: weights do not fit its configuration: {told}")
    return source.train(mode=False)


def _move(module: nn.Module, into: nn.Module, name: str) -> None:
    """Replace a child that was built without weights by a module of the same parameter shapes."""
    empty = into.get_submodule(name)
    wanted = {key: tuple(value.shape) for key, value in empty.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    if wanted != given:
        key = min(wanted.items() ^ given.items())[0]
        raise CheckpointError(
            f"{type(module).__name__}: {key}: expected {wanted.get(key)}, got {given.get(key)}"
        )
    setattr(into, name, module)


def _projector(
    source: Any, config: Any, family: AlignedFamily
) -> tuple[Projector | nn.Identity, dict[str, Any]]:
    if family.projector is None:
        return nn.Identity(), {}
    old = source.get_submodule(family.projector)
    shape: dict[str, Any] = {
        "bias": bool(config.multimodal_projector_bias),
        "activation": str(config.projector_hidden_act),
    }
    with torch.device("meta"):
        projector = Projector(old.linear_1.in_features, old.linear_2.out_features, **shape)
    _move(old.linear_1, projector.layers, "0")
    _move(old.linear_2, projector.layers, "2")
    return projector, shape


def _check_complete(
    folder: Path, source: Any, parts: AlignedParts, left_out: tuple[str, ...]
) -> None:
    """Check that every weight is used or left out on purpose, and every parameter has a weight."""
    taken = {
        id(weight)
        for part in parts.given().values()
        for weight in part.state_dict(keep_vars=True).values()
    }
    lost = [
        name
        for name, weight in source.state_dict(keep_vars=True).items()
        if id(weight) not in taken and name not in left_out
    ]
    empty = [
        f"{part}.{name}"
        for part, module in parts.given().items()
        for name, weight in module.state_dict().items()
        if weight.is_meta
    ]
    if lost or empty:
        raise CheckpointError(f"model {folder}: unused weights {lost[:3]}, missing {empty[:3]}")


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
