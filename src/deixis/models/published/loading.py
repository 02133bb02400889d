"""Imported parts into a model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from deixis.errors import CheckpointError, ModelError
from deixis.models.adapters import ADAPTER_PRESETS, AdapterConfig, adapters_of, self_attentions
from deixis.models.published.importing import REPORT
from deixis.models.tuning import Tuning, apply_tuning
from deixis.models.weight_files import read_weights

PLACES: Mapping[str, str] = MappingProxyType(
    {
        "language_model": "language_model",
        "vision_encoder": "vision_encoder",
        "projector": "projector",
        "location_decoder": "box_decoder",
        "prompted_decoder": "mask_decoder",
        "region_encoder": "region_encoder",
        "language_adapters": "language_model",
        "vision_adapters": "vision_encoder",
    }
)
"""Which part of a model takes an imported one; adapters go into it."""

VOCABULARY = ("embed_tokens.weight", "lm_head.weight")
"""Tensors with a row a token: a model with markers of its own has more of them."""


@dataclass(frozen=True, slots=True)
class LoadedPart:
    """What became of a part: tensors that were taken, and names of the model's that stay as they are."""

    part: str
    place: str
    taken: int
    stay: tuple[str, ...]


@torch.no_grad()
def load_imported(model: nn.Module, folder: Path) -> tuple[LoadedPart, ...]:
    """Put parts that `import_weights` wrote into a model that has their shapes.

    Every tensor has to have its place. What the model has beyond them (a quality estimate, rows of
    the vocabulary for markers) stays as it is, and is told. Adapters are put in first where the
    model has none: with biases and nothing between their maps where the weights have biases, as
    in Pink's public code, else as in its paper.

    Raises:
        CheckpointError: The folder was not written by an import, a file is damaged, or a tensor
            has no place of its shape.
        ModelError: The model lacks a part.
    """
    try:
        files: dict[str, list[str]] = json.loads((folder / REPORT).read_text())["files"]
        parts = {
            part: {
                name: tensor
                for file in names
                for name, tensor in read_weights(
                    folder / Path(file).name, f"imported weights {folder}"
                ).items()
            }
            for part, names in files.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = str(error).splitlines()[0]
        raise CheckpointError(f"imported weights {folder}: {message}") from error
    own = {part: places_of(model, part) for part in parts}
    # adapters give the maps around them no other names, and want them to be there
    order = sorted(parts, key=lambda part: part.endswith("_adapters"))
    return tuple(_load(model, part, parts[part], own[part]) for part in order)


def places_of(model: nn.Module, part: str) -> str:
    """The model's part that takes an imported one.

    Raises:
        ModelError: The model has none.
    """
    place = PLACES.get(part)
    if place is None or not isinstance(getattr(model, place, None), nn.Module):
        raise ModelError(f"imported part {part}: expected a model with a {place or 'part'} for it")
    return place


def _load(model: nn.Module, part: str, tensors: Mapping[str, Tensor], place: str) -> LoadedPart:
    module = model.get_submodule(place)
    if part.endswith("_adapters") and not adapters_of(module):
        apply_tuning(model, {place: _adapters(module, tensors)}, others="full")
    own = module.state_dict(keep_vars=True)
    for name, tensor in tensors.items():
        mine = own.get(name)
        rows = name.endswith(VOCABULARY) and mine is not None and len(mine) > len(tensor)
        shape = None if mine is None else tuple(mine[: len(tensor)].shape if rows else mine.shape)
        if mine is None or shape != tuple(tensor.shape):
            raise CheckpointError(
                f"imported part {part}: {name}: expected {shape}, got {tuple(tensor.shape)}"
            )
        mine[: len(tensor)].copy_(tensor) if rows else mine.copy_(tensor)
    adapted = part.endswith("_adapters")
    # one of two names for one tensor is enough
    filled = {id(own[name]) for name in tensors}
    stay = [
        name
        for name, tensor in own.items()
        if id(tensor) not in filled and (".adapter." in name) == adapted
    ]
    return LoadedPart(part, place, len(tensors), tuple(stay))


def _adapters(module: nn.Module, tensors: Mapping[str, Tensor]) -> Tuning:
    """The adapters that the weights were those of."""
    first = next(tensor for name, tensor in tensors.items() if name.endswith("down.weight"))
    preset = ADAPTER_PRESETS["code" if any(n.endswith("bias") for n in tensors) else "paper"]
    shape = AdapterConfig(len(first), preset.activation, preset.bias, preset.dropout)
    layers = sum(name.endswith("down.weight") for name in tensors)
    return Tuning("adapters", adapters=shape, skip_last=len(self_attentions(module)) - layers)
