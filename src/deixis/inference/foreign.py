"""Paths that are not a saved deixis model: what they are, and how deixis can use them."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
)

from deixis.errors import CheckpointError, ModelError
from deixis.models.aligned import ALIGNED_FAMILIES
from deixis.models.config import PointingVLMConfig
from deixis.models.decoders.prompted import SEGMENTER_FITS
from deixis.models.vision.loading import OPEN_CLIP_CONFIG
from deixis.models.vision.pretrained import FAMILIES

MOST_BYTES = 1 << 24
"""Largest config.json that is read; real ones have a few kilobytes."""

_OWN_FIELDS: Mapping[str, type] = MappingProxyType(
    {"text_config": dict, "vision": dict, "marker_ids": dict, "notation": str}
)
"""Fields of every saved model, and their types."""

_TYPE = PointingVLMConfig.model_type

_ENCODER = ("an image encoder", "deixis train RECIPE --set model.vision={path}")
_LANGUAGE = ("a language model", "deixis train RECIPE --set model.language={path}")
_TEXT = ("a text encoder", "deixis train tamp_scenes --set model.describer={path}")
_USES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(FAMILIES, _ENCODER),
        **dict.fromkeys(
            SEGMENTER_FITS,
            (
                "a segmenter",
                (
                    "deixis train RECIPE --set model.decoders.mask=none "
                    "--set model.decoders.segmenter.segmenter={path}"
                ),
            ),
        ),
        **dict.fromkeys(
            ALIGNED_FAMILIES,
            (
                "a vision-language model",
                "deixis train RECIPE --set model.aligned={path} --set model.tokens_from=encoder",
            ),
        ),
        "grounding-dino": ("a detector", "deixis point IMAGE QUESTION --detector {path}"),
        "vitpose": ("a pose model", "deixis point IMAGE QUESTION --pose {path}"),
    }
)
"""Description of a model of a Hugging Face type, and how deixis can use it."""

_FILES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        OPEN_CLIP_CONFIG: ("an OpenCLIP model", _ENCODER[1]),
        "adapter_config.json": ("adapters of PEFT", "merge them into their model first"),
        "recipe.json": (
            "a training run without a model yet",
            "deixis train RECIPE --out {path} --resume finishes it",
        ),
        "report.json": (
            "published weights that deixis import wrote",
            "deixis train RECIPE --set model.imported={path}",
        ),
    }
)
"""Description of a folder that has a file of this name, and how deixis can use it."""


def check_own(folder: Path, name: str) -> None:
    """Check that ``folder/config.json`` belongs to a saved deixis model.

    Args:
        folder: A folder with a ``config.json``.
        name: Name of the model in messages.

    Raises:
        ModelError: The file belongs to another model.
        CheckpointError: The file is damaged.
    """
    path = folder / "config.json"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ModelError(f"model {name}: config.json is larger than {MOST_BYTES} bytes")
        fields: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"model {name}: config.json cannot be read: {reason}; expected that of a saved deixis "
            "model"
        ) from error
    if not isinstance(fields, dict):
        raise CheckpointError(
            f"model {name}: config.json holds a {type(fields).__name__}; expected the fields of a "
            "saved deixis model"
        )
    kind = fields.get("model_type")
    if kind == _TYPE or (kind is None and fields.keys() >= _OWN_FIELDS.keys()):
        for field, expected in _OWN_FIELDS.items():
            value = fields.get(field, expected())
            if not isinstance(value, expected):
                raise ModelError(
                    f"model {name}: config.json: {field}: expected a {expected.__name__}, got "
                    f"{value!r:.80}"
                )
        return
    if not isinstance(kind, str):
        raise ModelError(
            f"model {name}: config.json has the model_type {kind!r}; expected {_TYPE!r}, that of a "
            "saved deixis model"
        )
    known = _use(kind, fields)
    if known is None:
        what = "a model of transformers" if kind in CONFIG_MAPPING else "a model"
        raise ModelError(
            f"model {name} is {what} of type {kind!r}, which deixis cannot use; expected a saved "
            "deixis model"
        )
    what, use = known
    raise ModelError(
        f"model {name} is {what} of type {kind!r}; expected a saved deixis model\n"
        f"hint: {use.format(path=folder)}"
    )


def _use(kind: str, fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """Description and use of a model; None if deixis cannot use it."""
    if kind in _USES:
        return _USES[kind]
    vision = fields.get("vision_config")
    if isinstance(vision, Mapping):
        # only the image tower of a two-tower model is read
        return _ENCODER if vision.get("model_type") in FAMILIES else None
    built = str(fields.get("architectures", "ForCausalLM"))
    speaks = "ForCausalLM" in built or "LMHeadModel" in built
    if speaks and kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return _LANGUAGE
    return _TEXT if kind in MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES else None


def refuse_path(path: Path, name: str) -> ModelError:
    """Return the error for a path without ``config.json``, with a description of the path."""
    expected = "expected the folder of a saved deixis model, which has a config.json"
    if not path.is_dir():
        return ModelError(f"model {name} is a file; {expected}")
    for file, (what, use) in _FILES.items():
        if (path / file).is_file():
            return ModelError(f"model {name} is {what}; {expected}\nhint: {use.format(path=path)}")
    if not any(path.iterdir()):
        return ModelError(f"model {name} is an empty folder; {expected}")
    return ModelError(f"model {name} is a folder without config.json; {expected}")
