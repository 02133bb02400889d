"""Pretrained image encoders by preset, folder or hub id, from safetensors only."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from transformers import ConvNextConfig, PreTrainedModel

from deixis.errors import CheckpointError, ModelError
from deixis.models.hub import checked_name, download, is_hub_id
from deixis.models.vision.normalisation import CLIP, Normalisation
from deixis.models.vision.pretrained import (
    Layer,
    PretrainedEncoder,
    PretrainedVisionConfig,
    vision_config,
)
from deixis.models.weight_files import check_folder, read_weights

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = "open_clip_model.safetensors"


@dataclass(frozen=True, slots=True)
class EncoderPreset:
    """A released encoder as a paper uses it: its source, canvas side, layer and pyramid."""

    hub: str
    image_size: int
    layer: Layer = -2


ENCODER_PRESETS: dict[str, EncoderPreset] = {
    "clip-convnext-l-320": EncoderPreset(
        "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup", 320, -1
    ),
    "clip-convnext-l-512": EncoderPreset(
        "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup", 512, -1
    ),
    "clip-vit-l-14-224": EncoderPreset("openai/clip-vit-large-patch14", 224),
    "clip-vit-l-14-336": EncoderPreset("openai/clip-vit-large-patch14-336", 336),
    "dinov3-vit-l-16": EncoderPreset("facebook/dinov3-vitl16-pretrain-lvd1689m", 512, "last"),
    # BLIP-2 has 39 of the 40 blocks of EVA-CLIP-g, so its last block is EVA's second to last
    "eva-clip-g-14-224": EncoderPreset("Salesforce/blip2-opt-2.7b", 224, -1),
    "siglip2-b-16-512": EncoderPreset("google/siglip2-base-patch16-512", 512),
    # 384 px hold 27 patches of 14 px; the encoder does not use the remaining 6 px
    "siglip2-so400m-14-378": EncoderPreset("google/siglip2-so400m-patch14-384", 378),
}
"""Encoders of the papers and their successors, by name."""


def load_encoder(
    name: str | Path,
    *,
    image_size: int | None = None,
    layer: Layer | None = None,
    class_token: bool = False,
    pyramid: tuple[tuple[Layer, float], ...] = (),
    uneven: bool = False,
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
) -> PretrainedEncoder:
    """Load a pretrained image encoder with frozen parameters.

    Args:
        name: A preset, a folder, or a hub id ``owner/name`` of a vision encoder, a whole
            vision-language model, or an OpenCLIP ConvNeXt.
        image_size: Side of the canvas in pixels; by default that of the preset or encoder.
        layer: The layer of the tokens; by default that of the preset, else -2 (ConvNeXt: -1).
        class_token: Whether to include the class token, before the patches.
        pyramid: Layer and magnification of each level; see `PretrainedVisionConfig`.
        uneven: Whether the canvas side need not be a multiple of the cell side.
        dtype: Precision of the weights, converted one by one as they are read.
        revision: Branch, tag or commit on the hub.

    Raises:
        ModelError: The encoder is unknown or unsupported.
        CheckpointError: Its weights are missing, damaged, incomplete or not safetensors.
    """
    preset = ENCODER_PRESETS.get(str(name))
    folder = _find(preset.hub if preset is not None else str(name), revision)
    config = read_vision_config(
        folder,
        image_size=image_size if image_size is not None or preset is None else preset.image_size,
        layer=layer if layer is not None or preset is None else preset.layer,
        class_token=class_token,
        pyramid=pyramid,
        uneven=uneven,
    )
    if not (folder / OPEN_CLIP_CONFIG).is_file():
        check_folder(folder, f"encoder {name}")
    try:
        if (folder / OPEN_CLIP_CONFIG).is_file():
            encoder = PretrainedEncoder(config).to(dtype)
            _load_open_clip(encoder, folder)
        else:
            with torch.device("meta"):
                encoder = PretrainedEncoder(config)
            encoder.model = _load_library(encoder, folder, dtype)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"encoder {name}: {str(error).splitlines()[0]}") from error
    return encoder.freeze()


def read_vision_config(
    folder: Path,
    *,
    image_size: int | None = None,
    layer: Layer | None = None,
    class_token: bool = False,
    pyramid: tuple[tuple[Layer, float], ...] = (),
    uneven: bool = False,
) -> PretrainedVisionConfig:
    """Read the configuration of the encoder in a folder, without its weights.

    Raises:
        ModelError: The folder has no supported encoder.
        CheckpointError: A configuration file is damaged.
    """
    try:
        if (folder / OPEN_CLIP_CONFIG).is_file():
            fields = json.loads((folder / OPEN_CLIP_CONFIG).read_text())
            native = fields["model_cfg"]["vision_cfg"].get("image_size", 224)
            seen = fields.get("preprocess_cfg", {})
            model: Any = open_clip_convnext_config(
                read_weights(folder / OPEN_CLIP_WEIGHTS, f"encoder {folder}")
            )
            size: int | None = image_size if image_size is not None else int(native)
            default: Normalisation | None = CLIP
        else:
            model = json.loads((folder / "config.json").read_text())
            size, default = image_size, None
            described = folder / "preprocessor_config.json"
            seen = json.loads(described.read_text()) if described.is_file() else {}
        own = _normalisation(seen) or default
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"encoder {folder}: {str(error).splitlines()[0]}") from error
    return vision_config(
        model,
        image_size=size,
        layer=layer,
        class_token=class_token,
        pyramid=pyramid,
        uneven=uneven,
        normalisation=own,
    )


def read_normalisation(folder: Path) -> Normalisation | None:
    """Read the normalisation of the encoder in a folder; None if no preprocessor file gives it.

    Raises:
        CheckpointError: The file is damaged.
    """
    for name, inner in (
        ("preprocessor_config.json", ""),
        ("processor_config.json", "image_processor"),
    ):
        if not (folder / name).is_file():
            continue
        try:
            fields = json.loads((folder / name).read_text())
            found = _normalisation(fields.get(inner, {}) if inner else fields)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{folder / name}: {str(error).splitlines()[0]}") from error
        if found is not None:
            return found
    return None


def _normalisation(fields: dict[str, Any]) -> Normalisation | None:
    mean = fields.get("image_mean", fields.get("mean"))
    std = fields.get("image_std", fields.get("std"))
    if mean is None or std is None:
        return None
    red, green, blue = (float(value) for value in mean)
    wide, tall, deep = (float(value) for value in std)
    return Normalisation((red, green, blue), (wide, tall, deep))


def _find(name: str, revision: str | None) -> Path:
    folder = Path(checked_name(name, "encoder"))
    if any((folder / file).is_file() for file in ("config.json", OPEN_CLIP_CONFIG)):
        return folder
    if folder.exists():
        raise ModelError(f"encoder {name}: folder without config.json or {OPEN_CLIP_CONFIG}")
    if not is_hub_id(name):
        raise ModelError(
            f"unknown encoder {name!r}; expected one of {sorted(ENCODER_PRESETS)}, a folder or a "
            "hub id"
        )
    return download(name, ["*.json", "*.safetensors"], what="encoder", revision=revision)


def _load_library(encoder: PretrainedEncoder, folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    model_class: type[PreTrainedModel] = getattr(transformers, encoder.config.family.model)
    loaded: Any = model_class.from_pretrained(
        folder,
        config=encoder.config.library,
        dtype=dtype,
        use_safetensors=True,
        output_loading_info=True,
    )
    model, report = loaded
    # the file of a whole model includes its text part: only missing weights are errors
    absent = sorted(report["missing_keys"])
    if absent:
        raise KeyError(f"{len(absent)} weights are missing, among them {absent[0]}")
    model.train(False)
    return model


def open_clip_convnext_config(weights: dict[str, Tensor]) -> ConvNextConfig:
    """Infer the shape of an OpenCLIP ConvNeXt from its weights.

    Raises:
        ModelError: The weights are not those of a ConvNeXt.
    """
    places = [
        re.fullmatch(r"visual\.trunk\.stages\.(\d+)\.blocks\.(\d+)\.conv_dw\.weight", name)
        for name in weights
    ]
    found = [(int(place[1]), int(place[2])) for place in places if place is not None]
    if not found:
        raise ModelError("OpenCLIP weights: expected a ConvNeXt trunk")
    stages = 1 + max(stage for stage, _ in found)
    sizes = [
        len(weights[f"visual.trunk.stages.{stage}.blocks.0.conv_dw.weight"])
        for stage in range(stages)
    ]
    depths = [sum(stage == wanted for stage, _ in found) for wanted in range(stages)]
    return ConvNextConfig(
        num_stages=stages, hidden_sizes=sizes, depths=depths, layer_norm_eps=1e-6, image_size=224
    )


_TIMM_TO_LIBRARY = (
    (r"stem\.0\.(\w+)", r"embeddings.patch_embeddings.\1"),
    (r"stem\.1\.(\w+)", r"embeddings.layernorm.\1"),
    (
        r"stages\.(\d+)\.downsample\.(\d)\.(\w+)",
        r"encoder.stages.\1.downsampling_layer.\2.\3",
    ),
    (
        r"stages\.(\d+)\.blocks\.(\d+)\.gamma",
        r"encoder.stages.\1.layers.\2.layer_scale_parameter",
    ),
    (
        r"stages\.(\d+)\.blocks\.(\d+)\.conv_dw\.(\w+)",
        r"encoder.stages.\1.layers.\2.dwconv.\3",
    ),
    (
        r"stages\.(\d+)\.blocks\.(\d+)\.norm\.(\w+)",
        r"encoder.stages.\1.layers.\2.layernorm.\3",
    ),
    (
        r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc([12])\.(\w+)",
        r"encoder.stages.\1.layers.\2.pwconv\3.\4",
    ),
    (r"head\.norm\.(\w+)", r"layernorm.\1"),
)


def convert_open_clip_convnext(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename OpenCLIP's (timm's) ConvNeXt weights to the names in `ConvNextModel`.

    Weights outside of the image trunk are left out.

    Raises:
        ModelError: A weight of the trunk has no counterpart.
    """
    converted: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if not name.startswith("visual.trunk."):
            continue
        short = name.removeprefix("visual.trunk.")
        for pattern, replacement in _TIMM_TO_LIBRARY:
            if re.fullmatch(pattern, short):
                converted[re.sub(pattern, replacement, short)] = weight
                break
        else:
            raise ModelError(f"OpenCLIP weights: unknown weight {name}")
    return converted


def _load_open_clip(encoder: PretrainedEncoder, folder: Path) -> None:
    weights = convert_open_clip_convnext(
        read_weights(folder / OPEN_CLIP_WEIGHTS, f"encoder {folder}")
    )
    encoder.model.load_state_dict(weights, strict=True)
