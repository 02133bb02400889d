"""Imported parts into a model."""

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
"""Which part of a model takes an imported one; adapters go into it."""

DETR_PARTS = ("box_decoder", "mask_decoder", "pose_decoder")
"""Parts that only decoders of the design ``detr`` take."""

WHOLE_STACKS = ("language_model", "vision_encoder")
"""Parts that take weights of all their layers or of none."""

_LAYER = re.compile(r"\blayers\.(\d+)\.")

VOCABULARY = ("embed_tokens.weight", "lm_head.weight")
"""Tensors with a row a token: a model with markers of its own has more of them."""


@dataclass(frozen=True, slots=True)
class LoadedPart:
    """What became of a part: tensors that were taken, and names of the model's that stay as they are.

    ``no_row`` are tokens of the published vocabulary for which the model has none.
    """

    part: str
    place: str
    taken: int
    stay: tuple[str, ...]
    no_row: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportedReport:
    """What an import says of its parts; fields as in `ImportReport`."""

    files: Mapping[str, Sequence[str]]
    settings: Mapping[str, str]
    tokens: Mapping[str, int]


def read_report(folder: Path) -> ImportedReport:
    """Read what an import wrote beside its parts.

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
    """Put parts that `import_weights` wrote into a model that has their shapes.

    Every tensor has to have its place. What the model has beyond them (a quality estimate, rows of
    the vocabulary for markers) stays as it is, and is told. Adapters are put in first where the
    model has none: with biases where the weights have them, and between their maps what the import
    was told.

    Rows of the vocabulary go by token: those of tokens that were added to the published one to the
    marker or token that they are here, all others to the same number.

    Args:
        model: A `PointingVLM`.
        folder: What `import_weights` wrote.
        vocabulary: The tokens of the model's tokenizer with their numbers.
        turns: Those of them that begin turns, which are ours as its markers are.

    Raises:
        CheckpointError: The folder was not written by an import, a file is damaged, a tensor has no
            place of its shape, a stack has fewer layers than the model's, or rows of the
            vocabulary would take the place of markers.
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
    # adapters give the maps around them no other names, and want them to be there
    order = sorted(parts, key=lambda part: part.endswith("_adapters"))
    return tuple(
        _load(model, part, parts[part], own[part], words, report.settings) for part in order
    )


def places_of(model: nn.Module, part: str) -> str:
    """The model's part that takes an imported one.

    Raises:
        ModelError: The model has none.
    """
    place = PLACES.get(part)
    module = None if place is None else getattr(model, place, None)
    if place is None or not isinstance(module, nn.Module):
        raise ModelError(f"imported part {part}: expected a model with a {place or 'part'} for it")
    if part in DETR_PARTS and getattr(getattr(module, "config", None), "design", None) != "detr":
        raise ModelError(
            f"imported part {part}: expected a model whose {place} has the design detr"
        )
    # of two encoders, the one that image tokens come from
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
    # one of two names for one tensor is enough
    filled = {id(own[name]) for name in tensors}
    stay = [
        name
        for name, tensor in own.items()
        if id(tensor) not in filled and (".adapter." in name) == adapted
    ]
    return LoadedPart(part, place, len(tensors), tuple(stay), no_row)


def _check_layers(part: str, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """See that a language model or an encoder gets all of its layers, where it gets any."""
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
    """The adapters that the weights were those of."""
    first = next(tensor for name, tensor in tensors.items() if name.endswith("down.weight"))
    preset = ADAPTER_PRESETS["code" if any(n.endswith("bias") for n in tensors) else "paper"]
    match settings.get(part):
        case "identity" | "silu" as activation:
            shape = AdapterConfig(len(first), activation, preset.bias, preset.dropout)
        case other:
            raise CheckpointError(
                f"imported part {part}: expected identity or silu between the maps, got {other}\n"
                "hint: import the weights again, with --activation where config.json does not say it"
            )
    layers = sum(name.endswith("down.weight") for name in tensors)
    return Tuning("adapters", adapters=shape, skip_last=len(self_attentions(module)) - layers)
