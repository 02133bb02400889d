"""Load imported parts into a model."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from deixis.errors import CheckpointError, ModelError
from deixis.models.adapters import ADAPTER_PRESETS, AdapterConfig, adapters_of, self_attentions
from deixis.models.published.importing import REPORT
from deixis.models.published.words import Words
from deixis.models.tuning import Tuning, apply_tuning
from deixis.models.vision.pyramid import PyramidEncoder
from deixis.models.weight_files import read_weights

PLACES: Mapping[str, str] = MappingProxyType(
    {
        "language_model": "language_model",
        "vision_encoder": "vision_encoder",
        "projector": "projector",
        "location_decoder": "box_decoder",
        "prompted_decoder": "mask_decoder",
        "region_encoder": "region_encoder",
        "box_decoder": "box_decoder",
        "mask_decoder": "mask_decoder",
        "pixel_decoder": "pixel_decoder",
        "pose_decoder": "keypoint_decoder",
        "language_adapters": "language_model",
        "vision_adapters": "vision_encoder",
    }
)
"""The model's part for each imported part; adapters are inserted into theirs."""

DETR_PARTS = ("box_decoder", "mask_decoder", "pose_decoder")
"""Imported parts that require decoders with the design ``detr``."""

WHOLE_STACKS = ("language_model", "vision_encoder")
"""Parts that take weights of all their layers or of none."""

_LAYER = re.compile(r"\blayers\.(\d+)\.")

VOCABULARY = ("embed_tokens.weight", "lm_head.weight")
"""Tensors with one row per token, of which a model with markers has more."""


@dataclass(frozen=True, slots=True)
class LoadedPart:
    """The outcome of loading a part: loaded tensors, and names of the model's unchanged ones.

    ``no_row`` lists tokens of the published vocabulary that the model lacks.
    """

    part: str
    place: str
    taken: int
    stay: tuple[str, ...]
    no_row: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportedReport:
    """The report of an import; fields as in `ImportReport`."""

    files: Mapping[str, Sequence[str]]
    settings: Mapping[str, str]
    tokens: Mapping[str, int]


def read_report(folder: Path) -> ImportedReport:
    """Read the report in a folder of imported parts.

    Raises:
        CheckpointError: The folder was not written by an import, or the report is damaged.
    """
    try:
        read = json.loads((folder / REPORT).read_text())
        return ImportedReport(
            {str(part): [str(name) for name in names] for part, names in read["files"].items()},
            {str(name): str(value) for name, value in read.get("settings", {}).items()},
            {str(token): int(number) for token, number in read.get("tokens", {}).items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = str(error).splitlines()[0]
        raise CheckpointError(f"imported weights {folder}: {message}") from error


@torch.no_grad()
def load_imported(
    model: nn.Module,
    folder: Path,
    *,
    vocabulary: Mapping[str, int] | None = None,
    turns: Mapping[str, int] = MappingProxyType({}),
) -> tuple[LoadedPart, ...]:
    """Load parts that `import_weights` wrote into a model of matching shapes.

    Every imported tensor must have a place. Other tensors of the model (a quality estimate,
    vocabulary rows of markers) stay unchanged and are reported. Missing adapters are inserted
    first, with biases if the weights have them and with the activation of the report.

    Vocabulary rows are assigned by token: rows of tokens that were added to the published
    vocabulary go to the same marker or token of the model, all others to the same index.

    Args:
        model: A `PointingVLM`.
        folder: A folder that `import_weights` wrote.
        vocabulary: The tokens of the model's tokenizer with their indices.
        turns: Tokens of the model that begin turns, by name.

    Raises:
        CheckpointError: The folder was not written by an import, a file is damaged, a tensor has no
            place of its shape, a stack has fewer layers than the model's, or vocabulary rows would
            overwrite markers.
        ModelError: The model lacks a part.
    """
    report = read_report(folder)
    try:
        parts = {
            part: {
                name: tensor
                for file in names
                for name, tensor in read_weights(
                    folder / Path(file).name, f"imported weights {folder}"
                ).items()
            }
            for part, names in report.files.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = str(error).splitlines()[0]
        raise CheckpointError(f"imported weights {folder}: {message}") from error
    markers = getattr(model.config, "marker_ids", {})
    words = Words(report.tokens, {**markers, **turns}, vocabulary)
    own = {part: places_of(model, part) for part in parts}
    # adapters do not rename the maps around them, and require these to exist
    order = sorted(parts, key=lambda part: part.endswith("_adapters"))
    return tuple(
        _load(model, part, parts[part], own[part], words, report.settings) for part in order
    )


def places_of(model: nn.Module, part: str) -> str:
    """Return the model's part for an imported one.

    Raises:
        ModelError: The model lacks it.
    """
    place = PLACES.get(part)
    module = None if place is None else getattr(model, place, None)
    if place is None or not isinstance(module, nn.Module):
        raise ModelError(f"imported part {part}: expected a model with a {place or 'part'} for it")
    if part in DETR_PARTS and getattr(getattr(module, "config", None), "design", None) != "detr":
        raise ModelError(
            f"imported part {part}: expected a model whose {place} has the design detr"
        )
    # of two encoders, the one of the image tokens
    return "vision_encoder.vit" if isinstance(module, PyramidEncoder) else place


def _load(
    model: nn.Module,
    part: str,
    tensors: Mapping[str, Tensor],
    place: str,
    words: Words,
    settings: Mapping[str, str],
) -> LoadedPart:
    module = model.get_submodule(place)
    if part.endswith("_adapters") and not adapters_of(module):
        shape = _adapters(module, tensors, part, settings)
        apply_tuning(model, {place: shape}, others="full")
    own = module.state_dict(keep_vars=True)
    no_row: tuple[str, ...] = ()
    for name, tensor in tensors.items():
        mine = own.get(name)
        table = mine is not None and name.endswith(VOCABULARY)
        if mine is not None and table and mine.shape[1:] == tensor.shape[1:]:
            taken, given, no_row = words.rows(len(tensor), len(mine), part)
            mine[given] = tensor[taken].to(mine.dtype)
            continue
        if mine is None or mine.shape != tensor.shape:
            expected = None if mine is None else tuple(mine.shape)
            raise CheckpointError(
                f"imported part {part}: {name}: expected {expected}, got {tuple(tensor.shape)}"
            )
        mine.copy_(tensor)
    _check_layers(part, tensors, own)
    adapted = part.endswith("_adapters")
    # one of two names of a shared tensor is enough
    filled = {id(own[name]) for name in tensors}
    stay = [
        name
        for name, tensor in own.items()
        if id(tensor) not in filled and (".adapter." in name) == adapted
    ]
    return LoadedPart(part, place, len(tensors), tuple(stay), no_row)


def _check_layers(part: str, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Check that a language model or an encoder gets either all of its layers or none."""
    if part not in WHOLE_STACKS:
        return
    given, has = (len({m[1] for m in map(_LAYER.search, names) if m}) for names in (tensors, own))
    if 0 < given < has:
        raise CheckpointError(
            f"imported part {part}: weights of {given} layers, the model has {has}"
        )


def _adapters(
    module: nn.Module, tensors: Mapping[str, Tensor], part: str, settings: Mapping[str, str]
) -> Tuning:
    """Return the adapter configuration of the weights."""
    first = next(tensor for name, tensor in tensors.items() if name.endswith("down.weight"))
    preset = ADAPTER_PRESETS["code" if any(n.endswith("bias") for n in tensors) else "paper"]
    match settings.get(part):
        case "identity" | "silu" as activation:
            shape = AdapterConfig(len(first), activation, preset.bias, preset.dropout)
        case other:
            raise CheckpointError(
                f"imported part {part}: expected activation identity or silu, got {other}\n"
                "hint: import the weights again, with --activation where config.json does not say it"
            )
    layers = sum(name.endswith("down.weight") for name in tensors)
    return Tuning("adapters", adapters=shape, skip_last=len(self_attentions(module)) - layers)
