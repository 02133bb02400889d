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
    """A row of REF-VLM's Table XI: which encoders, at which sizes, which features."""

    index: tuple[int, ...]
    convolution: str = "clip-convnext-l-320"
    convolution_size: int = 512
    vit: str = "clip-vit-l-14-336"


PYRAMID_PRESETS: dict[str, PyramidPreset] = {
    "refvlm": PyramidPreset((0, 1, 2, 4)),
    "refvlm-320": PyramidPreset((0, 1, 2, 4), convolution_size=320),
    "refvlm-convnext-320": PyramidPreset((0, 1, 2, 3), convolution_size=320),
    # 336 px hold ten cells of the last stage's 32 px and half a one, which it does not see
    "refvlm-convnext-336": PyramidPreset((0, 1, 2, 3), convolution_size=336),
    "refvlm-vit-336": PyramidPreset((4,)),
}
"""The encoders of REF-VLM's Table XI by name; ``refvlm`` is the one it trains with."""


@dataclass(frozen=True, slots=True)
class PyramidConfig:
    """Two encoders and the features that they give together.

    Attributes:
        vit: The encoder that image tokens come from; its layer is the last feature.
        convolution: The encoder whose stages are the features before that; None where the index
            asks for none of them.
        index: Features of the pyramid in the order in which they are given; fine to coarse.

    Raises:
        ModelError: A feature is not there.
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
            raise ModelError("a pyramid needs a feature")
        wrong = [place for place in self.index if not 0 <= place <= self.vit_index]
        if wrong:
            raise ModelError(f"feature {wrong[0]}: expected 0 to {self.vit_index}")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "PyramidConfig":
        """Undo `dataclasses.asdict`, also after JSON has turned tuples into lists."""
        convolution = fields["convolution"]
        return cls(
            PretrainedVisionConfig.from_dict(fields["vit"]),
            None if convolution is None else PretrainedVisionConfig.from_dict(convolution),
            tuple(fields["index"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON can hold it."""
        return asdict(self)

    @property
    def vit_index(self) -> int:
        """The ViT's own place among the features: after all stages."""
        return 0 if self.convolution is None else self.convolution.num_layers

    @property
    def image_size(self) -> int:
        """Side of the canvas: the finer of both encoders'."""
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
        """Cells along a side of each level."""
        return tuple(
            self.vit.grid_of(self.vit.layer)
            if self.convolution is None or place == self.vit_index
            else self.convolution.grid_of(place)
            for place in self.index
        )


class PyramidEncoder(nn.Module):
    """A ViT and a ConvNeXt that look at the same canvas, each at its own resolution."""

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
        """Cells along a side of each level."""
        return self.config.grids

    @property
    def token_width(self) -> int:
        """Channels of a token: the ViT's."""
        return self.config.vit.token_width

    @property
    def num_tokens(self) -> int:
        """Tokens that one image becomes."""
        return self.config.vit.num_tokens

    @property
    def normalisation(self) -> Normalisation:
        """What the ViT expects of pixels; each encoder applies its own."""
        return self.config.vit.normalisation

    def freeze(self) -> "PyramidEncoder":
        """Train nothing of it."""
        self.requires_grad_(False)
        return self.train(False)

    def encode(
        self, pixels: Float[Tensor, "b 3 h w"], vit_pixels: Float[Tensor, "b 3 vh vw"] | None = None
    ) -> dict[str, Float[Tensor, "b ..."]]:
        """Run both networks on canvases in [-1, 1].

        The canvas is scaled to each encoder's side, unless the ViT's own is given as well, as
        where both are cut from the original image.

        Raises:
            ModelError: The canvases have another size than the configuration says.
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
        """Tokens and pyramid from what `encode` gave; nothing here has parameters."""
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
    """Load both encoders of a preset with their weights, frozen.

    Args:
        name: One of `PYRAMID_PRESETS`.
        vit: Where the ViT lies, if not where the preset says.
        convolution: Where the ConvNeXt lies, if not where the preset says.
        dtype: Precision of the weights.

    Raises:
        ModelError: There is no such preset or encoder.
        CheckpointError: Weights are missing, damaged or incomplete.
    """
    if name not in PYRAMID_PRESETS:
        raise ModelError(f"unknown pyramid {name!r}; expected one of {sorted(PYRAMID_PRESETS)}")
    preset = PYRAMID_PRESETS[name]
    # the ViT's single map is the pyramid's, not the magnified ones that it gives alone
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
    """Make one pyramid of two encoders that are there already; they are used, not copied.

    Raises:
        ModelError: A feature is not there, or an encoder is of the wrong kind.
    """
    config = PyramidConfig(
        vit.config, None if convolution is None else convolution.config, tuple(index)
    )
    with torch.device("meta"):
        joined = PyramidEncoder(config)
    joined.vit, joined.convolution = vit, convolution
    return joined.train(vit.training)


def resize_concat(pyramid: Sequence[Float[Tensor, "b _c _h _w"]]) -> Float[Tensor, "b c h w"]:
    """All levels as one map at the first one's resolution, as REF-VLM's box decoder reads them."""
    grid = pyramid[0].shape[-1]
    return torch.cat([resample(level, grid) for level in pyramid], dim=1)


def _scaled(pixels: Float[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 size size"]:
    if pixels.shape[-1] == size:
        return pixels
    scaled = functional.interpolate(
        pixels, size=(size, size), mode="bicubic", antialias=True, align_corners=False
    )
    # an 8-bit image cannot overshoot
    return scaled.clamp(-1.0, 1.0)
