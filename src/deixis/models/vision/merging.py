"""Vision models of Qwen-VL: groups of patches are merged into tokens of the language width.

Their input is patches cut in advance, in the order in which they are merged, with positions from
the grid; the grid of a square canvas is constant. They contain their projector, so that their
output goes to the language model as it is. Layers are numbered as in
`deixis.models.vision.pretrained`.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from deixis.errors import ModelError
from deixis.models.vision.features import VisionFeatures
from deixis.models.vision.normalisation import CLIP, SIGNED, Normalisation
from deixis.models.vision.pretrained import resample, with_tuples


@dataclass(frozen=True, slots=True)
class MergingFamily:
    """How to build the vision models of one Hugging Face type.

    ``width`` and ``out`` are the configuration fields with the channels of a patch and of a token.
    """

    module: str
    model: str
    width: str
    out: str
    normalisation: Normalisation


def _family(name: str, model: str, width: str, out: str, own: Normalisation) -> MergingFamily:
    return MergingFamily(f"transformers.models.{name}.modeling_{name}", model, width, out, own)


MERGING_FAMILIES: Mapping[str, MergingFamily] = {
    "qwen2_vl_vision": _family(
        "qwen2_vl", "Qwen2VisionTransformerPretrainedModel", "embed_dim", "hidden_size", CLIP
    ),
    "qwen2_5_vl_vision": _family(
        "qwen2_5_vl",
        "Qwen2_5_VisionTransformerPretrainedModel",
        "hidden_size",
        "out_hidden_size",
        CLIP,
    ),
    "qwen3_vl_vision": _family(
        "qwen3_vl", "Qwen3VLVisionModel", "hidden_size", "out_hidden_size", SIGNED
    ),
}
"""Supported families by model type."""


@dataclass(frozen=True, slots=True)
class MergingVisionConfig:
    """The configuration of a merging vision model at one resolution.

    Attributes:
        model: Configuration of the model with its ``model_type``, in the Hugging Face layout.
        image_size: Side of the square canvas in pixels; a multiple of the side of a merged token.
        pyramid: Layer and magnification of each level, fine to coarse. Empty for the default: the
            last layer at four times, twice and once the grid of patches.
        mean: Mean of red, green and blue in [0, 1] for normalisation.
        std: Standard deviation of red, green and blue.

    Raises:
        ModelError: The model is of another type, or lacks the layer or resolution.
    """

    model: dict[str, Any]
    image_size: int
    pyramid: tuple[tuple[int, float], ...] = ()
    mean: tuple[float, float, float] = CLIP.mean
    std: tuple[float, float, float] = CLIP.std

    def __post_init__(self) -> None:
        side = self.patch * self.merge
        if self.image_size < side or self.image_size % side:
            raise ModelError(
                f"image size {self.image_size}: expected a multiple of {side} pixels, the side of a "
                "merged token"
            )
        for layer, scale in self.pyramid:
            self.place_of(layer)
            if not scale > 0:
                raise ModelError(f"magnification of a pyramid level: expected > 0, got {scale}")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "MergingVisionConfig":
        """Build from `dataclasses.asdict`, also with lists in place of tuples."""
        return cls(**with_tuples(fields))

    @property
    def family(self) -> MergingFamily:
        """The family of the model."""
        kind = str(self.model.get("model_type"))
        if kind not in MERGING_FAMILIES:
            raise ModelError(
                f"unknown kind of merging vision model {kind!r}; "
                f"expected one of {sorted(MERGING_FAMILIES)}"
            )
        return MERGING_FAMILIES[kind]

    @property
    def library(self) -> PreTrainedConfig:
        """The Hugging Face configuration of the model."""
        return copy.deepcopy(self._built)

    @property
    def _built(self) -> PreTrainedConfig:
        self.family  # noqa: B018  # raises for unknown types
        return _build_library_config(json.dumps(self.model, sort_keys=True))

    @property
    def normalisation(self) -> Normalisation:
        """The normalisation of pixels for the model."""
        return Normalisation(self.mean, self.std)

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return int(self._built.patch_size)

    @property
    def merge(self) -> int:
        """Side of a merged token in patches."""
        return int(self._built.spatial_merge_size)

    @property
    def frames(self) -> int:
        """Number of frames in a patch; an image is repeated as often."""
        return int(self._built.temporal_patch_size)

    @property
    def grid(self) -> int:
        """Side of the canvas in patches."""
        return self.image_size // self.patch

    @property
    def num_layers(self) -> int:
        """Number of hidden states: the input of the first block and the output of each block."""
        return int(self._built.depth) + 1

    @property
    def num_tokens(self) -> int:
        """Number of tokens per image."""
        return (self.grid // self.merge) ** 2

    @property
    def token_width(self) -> int:
        """Channels of a token, the width of the language model."""
        return int(getattr(self._built, self.family.out))

    @property
    def levels(self) -> tuple[tuple[int, float], ...]:
        """The levels of the pyramid, with the default applied."""
        return self.pyramid or ((-1, 4.0), (-1, 2.0), (-1, 1.0))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the pyramid, fine to coarse."""
        return (int(getattr(self._built, self.family.width)),) * len(self.levels)

    @property
    def grids(self) -> tuple[int, ...]:
        """Cells per side of each level of the pyramid."""
        return tuple(max(1, round(self.grid * scale)) for _, scale in self.levels)

    @property
    def deep_layers(self) -> int:
        """Number of language model layers with additional visual features (DeepStack; Qwen3-VL)."""
        return len(getattr(self._built, "deepstack_visual_indexes", ()))

    def place_of(self, layer: int) -> int:
        """Return the index of a layer, counted from 0.

        Raises:
            ModelError: The layer does not exist.
        """
        if not -self.num_layers <= layer < self.num_layers:
            raise ModelError(
                f"layer {layer}: expected one of the encoder's {self.num_layers} layers"
            )
        return layer % self.num_layers

    def order(self) -> Int[Tensor, " cells"]:
        """Return the row-major index of each patch in the order of the model.

        Patches of a token are consecutive. Tokens are in row-major order, by windows in a model
        with windowed attention (Qwen2.5-VL).
        """
        tokens = self.grid // self.merge
        rows, columns = torch.meshgrid(torch.arange(tokens), torch.arange(tokens), indexing="ij")
        sequence = torch.arange(tokens**2)
        window = int(getattr(self._built, "window_size", 0)) // self.merge // self.patch
        if window:
            across = -(-tokens // window)
            number = (rows // window * across + columns // window).flatten()
            sequence = torch.argsort(number, stable=True)
        inside = torch.arange(self.merge)
        first = (rows * self.merge * self.grid + columns * self.merge).flatten()[sequence]
        steps = (inside[:, None] * self.grid + inside).flatten()
        return (first[:, None] + steps).flatten()


class MergingEncoder(nn.Module):
    """A vision model of Qwen-VL: from canvases to tokens of the language width and a pyramid.

    The pyramid consists of hidden states of patches, rearranged into maps.
    """

    def __init__(self, config: MergingVisionConfig) -> None:
        super().__init__()
        self.config = config
        family = config.family
        model_class: type[PreTrainedModel] = getattr(import_module(family.module), family.model)
        self.model = model_class(config.library)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> VisionFeatures:
        """Encode canvases of ``image_size``; ``pixels`` lie in [-1, 1].

        Raises:
            ModelError: The canvases do not have the configured size.
        """
        config, count = self.config, len(pixels)
        size = config.image_size
        if tuple(pixels.shape[-2:]) != (size, size):
            raise ModelError(
                f"canvas of {pixels.shape[-1]}x{pixels.shape[-2]}: the encoder expects {size}x{size}"
            )
        normed = config.normalisation.from_signed(pixels).to(self.model.dtype)
        patches = cut_patches(normed, config.patch, merge=config.merge, frames=config.frames)
        grid = torch.tensor([[1, config.grid, config.grid]] * count, device=pixels.device)
        output = self.model(
            patches.flatten(0, 1), grid_thw=grid, output_hidden_states=True, return_dict=True
        )
        raster = torch.argsort(config.order()).to(pixels.device)

        def laid_out(layer: int) -> Float[Tensor, "b c h w"]:
            states = output.hidden_states[config.place_of(layer)].unflatten(0, (count, -1))
            return states[:, raster].transpose(1, 2).unflatten(2, (config.grid, config.grid))

        levels = zip(config.levels, config.grids, strict=True)
        return VisionFeatures(
            output.pooler_output.unflatten(0, (count, -1)),
            tuple(resample(laid_out(layer), cells) for (layer, _), cells in levels),
            tuple(
                each.unflatten(0, (count, -1)) for each in getattr(output, "deepstack_features", ())
            ),
        )


def cut_patches(
    pixels: Float[Tensor, "b 3 h w"], side: int, *, merge: int, frames: int
) -> Float[Tensor, "b cells values"]:
    """Cut canvases into patches in the layout of Qwen-VL.

    Patches of a token are consecutive. The values of a patch are ordered by channel, frame, row and
    column; an image is a video of ``frames`` equal frames.
    """
    rows, columns = pixels.shape[-2] // side // merge, pixels.shape[-1] // side // merge
    cut = pixels.unflatten(3, (columns, merge, side)).unflatten(2, (rows, merge, side))
    # batch; row and column of tokens; row and column of patches in a token; channel, row, column
    ordered = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)
    filmed = ordered[..., None, :, :].expand(*ordered.shape[:-2], frames, side, side)
    return filmed.flatten(5).flatten(1, 4)


def merging_config(
    model: PreTrainedConfig,
    *,
    image_size: int,
    pyramid: tuple[tuple[int, float], ...] = (),
    normalisation: Normalisation | None = None,
) -> MergingVisionConfig:
    """Return the configuration of a vision model from its Hugging Face configuration.

    The default ``normalisation`` is that of the model type.

    Raises:
        ModelError: The model is of another type, or lacks the layer or resolution.
    """
    fields = {
        name: value
        for name, value in model.to_diff_dict().items()
        if name not in {"architectures", "dtype", "transformers_version"}
    }
    fields["model_type"] = model.model_type
    described = MergingVisionConfig(fields, image_size, pyramid)
    own = normalisation if normalisation is not None else described.family.normalisation
    return MergingVisionConfig(fields, image_size, pyramid, own.mean, own.std)


@lru_cache(maxsize=32)
def _build_library_config(text: str) -> PreTrainedConfig:
    fields = json.loads(text)
    return AutoConfig.for_model(fields.pop("model_type"), **fields)
