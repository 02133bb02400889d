"""REF-VLM's two encoders as one: CLIP's ViT for words, CLIP's ConvNeXt for detail (III-B, Fig. 3).

Feature indices are those of Table XI: 0 to 3 are the ConvNeXt's stages at strides 4, 8, 16 and 32
of its canvas; 4 is the ViT's layer -2 as a map.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from deixis.errors import ModelError
from deixis.models.vision.features import VisionFeatures
from deixis.models.vision.loading import load_encoder
from deixis.models.vision.normalisation import Normalisation
from deixis.models.vision.pretrained import (
    PretrainedEncoder,
    PretrainedVisionConfig,
    resample,
)


@dataclass(frozen=True, slots=True)
class PyramidPreset:
    """A row of REF-VLM's Table XI: encoders, canvas sizes and features."""

    index: tuple[int, ...]
    convolution: str = "clip-convnext-l-320"
    convolution_size: int = 512
    vit: str = "clip-vit-l-14-336"


PYRAMID_PRESETS: dict[str, PyramidPreset] = {
    "refvlm": PyramidPreset((0, 1, 2, 4)),
    "refvlm-320": PyramidPreset((0, 1, 2, 4), convolution_size=320),
    "refvlm-convnext-320": PyramidPreset((0, 1, 2, 3), convolution_size=320),
    # 336 px hold ten cells of 32 px of the last stage; the encoder does not use the remaining 16 px
    "refvlm-convnext-336": PyramidPreset((0, 1, 2, 3), convolution_size=336),
    "refvlm-vit-336": PyramidPreset((4,)),
}
"""The encoders of REF-VLM's Table XI by name; ``refvlm`` is the pair it trains with."""


@dataclass(frozen=True, slots=True)
class PyramidConfig:
    """Two encoders and the features of their joint pyramid.

    Attributes:
        vit: The encoder of the image tokens; its layer is the last feature.
        convolution: The encoder whose stages are the earlier features; None if ``index`` has none
            of them.
        index: Features of the pyramid in order, fine to coarse.

    Raises:
        ModelError: A feature does not exist, or an encoder is of the wrong kind.
    """

    vit: PretrainedVisionConfig
    convolution: PretrainedVisionConfig | None
    index: tuple[int, ...] = (0, 1, 2, 4)

    def __post_init__(self) -> None:
        if self.vit.family.cells == "maps":
            raise ModelError("image tokens of a pyramid: expected a ViT, got a ConvNeXt")
        if self.convolution is not None and self.convolution.family.cells != "maps":
            raise ModelError("maps of a pyramid: expected a ConvNeXt, got a ViT")
        if not self.index:
            raise ModelError("index of a pyramid: expected at least one feature, got none")
        wrong = [place for place in self.index if not 0 <= place <= self.vit_index]
        if wrong:
            raise ModelError(f"feature {wrong[0]}: expected 0 to {self.vit_index}")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "PyramidConfig":
        """Build from `dataclasses.asdict`, also with lists in place of tuples."""
        convolution = fields["convolution"]
        return cls(
            PretrainedVisionConfig.from_dict(fields["vit"]),
            None if convolution is None else PretrainedVisionConfig.from_dict(convolution),
            tuple(fields["index"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as data for JSON."""
        return asdict(self)

    @property
    def vit_index(self) -> int:
        """Index of the ViT's feature, after all stages."""
        return 0 if self.convolution is None else self.convolution.num_layers

    @property
    def image_size(self) -> int:
        """Side of the canvas: the larger of both encoders'."""
        return max(self.vit.image_size, self.convolution.image_size if self.convolution else 0)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the pyramid."""
        return tuple(
            self.vit.token_width
            if self.convolution is None or place == self.vit_index
            else self.convolution.width_of(place)
            for place in self.index
        )

    @property
    def grids(self) -> tuple[int, ...]:
        """Cells per side of each level."""
        return tuple(
            self.vit.grid_of(self.vit.layer)
            if self.convolution is None or place == self.vit_index
            else self.convolution.grid_of(place)
            for place in self.index
        )


class PyramidEncoder(nn.Module):
    """A ViT and a ConvNeXt that encode the same canvas, each at its own resolution."""

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = PretrainedEncoder(config.vit)
        self.convolution = (
            None if config.convolution is None else PretrainedEncoder(config.convolution)
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the pyramid."""
        return self.config.widths

    @property
    def grids(self) -> tuple[int, ...]:
        """Cells per side of each level."""
        return self.config.grids

    @property
    def token_width(self) -> int:
        """Channels of a token of the ViT."""
        return self.config.vit.token_width

    @property
    def num_tokens(self) -> int:
        """Number of tokens per image."""
        return self.config.vit.num_tokens

    @property
    def normalisation(self) -> Normalisation:
        """The normalisation of the ViT; each encoder applies its own."""
        return self.config.vit.normalisation

    def freeze(self) -> "PyramidEncoder":
        """Freeze all parameters and return the encoder."""
        self.requires_grad_(False)
        return self.train(False)

    def encode(
        self, pixels: Float[Tensor, "b 3 h w"], vit_pixels: Float[Tensor, "b 3 vh vw"] | None = None
    ) -> dict[str, Float[Tensor, "b ..."]]:
        """Run both networks on canvases in [-1, 1].

        The canvas is scaled to the side of each encoder. ``vit_pixels`` replace the scaled canvas
        of the ViT, for example when both are cut from the source image.

        Raises:
            ModelError: The canvases do not have the configured size.
        """
        size = self.config.image_size
        if tuple(pixels.shape[-2:]) != (size, size):
            raise ModelError(
                f"canvas of {pixels.shape[-1]}x{pixels.shape[-2]}: the encoder expects {size}x{size}"
            )
        seen = vit_pixels if vit_pixels is not None else pixels
        parts = {
            f"vit.{name}": part
            for name, part in self.vit.encode(_scaled(seen, self.config.vit.image_size)).items()
        }
        if self.convolution is not None and self.config.convolution is not None:
            scaled = _scaled(pixels, self.config.convolution.image_size)
            given = self.convolution.encode(scaled)
            kept = {str(place) for place in self.config.index}
            parts |= {f"convolution.{name}": given[name] for name in given if name in kept}
        return parts

    def assemble(self, parts: Mapping[str, Float[Tensor, "b ..."]]) -> VisionFeatures:
        """Return tokens and pyramid from the results of `encode`; there are no parameters here."""
        own = {
            name.removeprefix("vit."): part
            for name, part in parts.items()
            if name.startswith("vit.")
        }
        cells = self.vit.map(own, self.config.vit.layer)
        return VisionFeatures(
            self.vit.tokens(own),
            tuple(
                cells if place == self.config.vit_index else parts[f"convolution.{place}"]
                for place in self.config.index
            ),
        )

    def forward(
        self, pixels: Float[Tensor, "b 3 h w"], vit_pixels: Float[Tensor, "b 3 vh vw"] | None = None
    ) -> VisionFeatures:
        """Encode canvases of ``image_size``; ``pixels`` lie in [-1, 1]."""
        return self.assemble(self.encode(pixels, vit_pixels))


def load_pyramid(
    name: str,
    *,
    vit: str | Path | None = None,
    convolution: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
) -> PyramidEncoder:
    """Load both encoders of a preset with frozen pretrained weights.

    Args:
        name: One of `PYRAMID_PRESETS`.
        vit: Source of the ViT in place of the preset's.
        convolution: Source of the ConvNeXt in place of the preset's.
        dtype: Precision of the weights.

    Raises:
        ModelError: The preset or an encoder is unknown.
        CheckpointError: Weights are missing, damaged or incomplete.
    """
    if name not in PYRAMID_PRESETS:
        raise ModelError(f"unknown pyramid {name!r}; expected one of {sorted(PYRAMID_PRESETS)}")
    preset = PYRAMID_PRESETS[name]
    # the pyramid uses the ViT's single map, not the magnified ones of its own pyramid
    words = load_encoder(vit or preset.vit, pyramid=((-2, 1.0),), dtype=dtype)
    index, detail = preset.index, None
    if min(index) < 4:
        detail = load_encoder(
            convolution or preset.convolution,
            image_size=preset.convolution_size,
            uneven=True,
            dtype=dtype,
        )
    else:
        index = (0,)
    return join_encoders(words, detail, index=index)


def join_encoders(
    vit: PretrainedEncoder, convolution: PretrainedEncoder | None, *, index: Sequence[int]
) -> PyramidEncoder:
    """Build a pyramid from two existing encoders, without copying them.

    Raises:
        ModelError: A feature does not exist, or an encoder is of the wrong kind.
    """
    config = PyramidConfig(
        vit.config, None if convolution is None else convolution.config, tuple(index)
    )
    with torch.device("meta"):
        joined = PyramidEncoder(config)
    joined.vit, joined.convolution = vit, convolution
    return joined.train(vit.training)


def resize_concat(pyramid: Sequence[Float[Tensor, "b _c _h _w"]]) -> Float[Tensor, "b c h w"]:
    """Resize all levels to the first and concatenate channels, as in REF-VLM's box decoder."""
    grid = pyramid[0].shape[-1]
    return torch.cat([resample(level, grid) for level in pyramid], dim=1)


def _scaled(pixels: Float[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 size size"]:
    if pixels.shape[-1] == size:
        return pixels
    scaled = functional.interpolate(
        pixels, size=(size, size), mode="bicubic", antialias=True, align_corners=False
    )
    # values of an 8-bit image must not overshoot
    return scaled.clamp(-1.0, 1.0)
