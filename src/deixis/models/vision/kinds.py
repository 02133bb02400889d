"""Kinds of vision encoders: their configurations in JSON, sizes and constructors."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deixis.errors import ModelError
from deixis.models.vision.merging import MergingEncoder, MergingVisionConfig
from deixis.models.vision.pretrained import PretrainedEncoder, PretrainedVisionConfig
from deixis.models.vision.pyramid import PyramidConfig, PyramidEncoder
from deixis.models.vision.small import SmallVisionConfig, SmallVisionEncoder

VisionConfig = SmallVisionConfig | PretrainedVisionConfig | PyramidConfig | MergingVisionConfig
VisionEncoder = SmallVisionEncoder | PretrainedEncoder | PyramidEncoder | MergingEncoder

KINDS = ("small", "pretrained", "pyramid", "merging")
"""The small encoder, one of the Hugging Face hub, REF-VLM's pair, or that of a Qwen-VL."""

GREY = (127, 127, 127)
"""Padding colour of encoders that are trained from scratch."""


@dataclass(frozen=True, slots=True)
class VisionSizes:
    """Sizes of a vision encoder that other parts depend on.

    ``widths`` and ``grids`` are the channels and the cells per side of each pyramid level, fine to
    coarse. ``canvas`` is the side in pixels; ``fill`` is the colour of the padding.
    """

    canvas: int
    num_tokens: int
    token_width: int
    widths: tuple[int, ...]
    grids: tuple[int, ...]
    fill: tuple[int, int, int]

    @property
    def pixel_level(self) -> int:
        """The finest level, for masks."""
        return 0

    @property
    def cell_level(self) -> int:
        """The level that references attend to: the second coarsest, or the only one."""
        return max(len(self.grids) - 2, 0)


def read_vision(stored: Mapping[str, Any]) -> VisionConfig:
    """Read a vision encoder's configuration from JSON data; the default ``kind`` is the small one.

    Raises:
        ModelError: The kind or a field is unknown, or a value does not fit.
    """
    fields = dict(stored)
    kind = fields.pop("kind", "small")
    if kind not in KINDS:
        raise ModelError(f"vision encoder of kind {kind!r}: expected one of {list(KINDS)}")
    try:
        if kind == "pretrained":
            return PretrainedVisionConfig.from_dict(fields)
        if kind == "pyramid":
            return PyramidConfig.from_dict(fields)
        if kind == "merging":
            return MergingVisionConfig.from_dict(fields)
        # JSON stores tuples as lists
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return SmallVisionConfig(**plain)
    except (TypeError, KeyError) as error:
        raise ModelError(f"vision encoder of kind {kind!r}: {error}") from error


def write_vision(config: VisionConfig) -> dict[str, Any]:
    """Return a configuration as data for `read_vision`; the small encoder's has no ``kind``."""
    match config:
        case SmallVisionConfig():
            return asdict(config)
        case PretrainedVisionConfig():
            return {"kind": "pretrained", **asdict(config)}
        case PyramidConfig():
            return {"kind": "pyramid", **config.to_dict()}
        case MergingVisionConfig():
            return {"kind": "merging", **asdict(config)}


def vision_sizes(config: VisionConfig) -> VisionSizes:
    """Return the sizes of an encoder without building it."""
    if isinstance(config, SmallVisionConfig):
        return VisionSizes(
            config.image_size,
            config.grid**2,
            config.widths[-1],
            config.widths,
            tuple(config.image_size // stride for stride in (2, 4, 8, 16)),
            GREY,
        )
    tokens = config.vit if isinstance(config, PyramidConfig) else config
    return VisionSizes(
        config.image_size,
        tokens.num_tokens,
        tokens.token_width,
        config.widths,
        config.grids,
        tokens.normalisation.fill,
    )


def build_vision_encoder(config: VisionConfig) -> VisionEncoder:
    """Build an encoder with random weights."""
    match config:
        case SmallVisionConfig():
            return SmallVisionEncoder(config)
        case PretrainedVisionConfig():
            return PretrainedEncoder(config)
        case PyramidConfig():
            return PyramidEncoder(config)
        case MergingVisionConfig():
            return MergingEncoder(config)
