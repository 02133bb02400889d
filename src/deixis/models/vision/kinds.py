"""Which vision encoder a model has: its configuration as JSON has it, its sizes, and itself."""

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
"""Our own encoder, one of the Hugging Face hub, REF-VLM's two as one, or a Qwen-VL's."""

GREY = (127, 127, 127)
"""What surrounds an image for an encoder that is trained from scratch."""


@dataclass(frozen=True, slots=True)
class VisionSizes:
    """What the rest of a model needs to know of its vision encoder.

    ``widths`` and ``grids`` are those of the pyramid, fine to coarse: its channels, and its cells
    along a side. ``canvas`` is in pixels; ``fill`` is the colour around an image.
    """

    canvas: int
    num_tokens: int
    token_width: int
    widths: tuple[int, ...]
    grids: tuple[int, ...]
    fill: tuple[int, int, int]

    @property
    def pixel_level(self) -> int:
        """The level that masks are cut from: the finest."""
        return 0

    @property
    def cell_level(self) -> int:
        """The level that references attend to: the coarsest but one, where there are several."""
        return max(len(self.grids) - 2, 0)


def read_vision(stored: Mapping[str, Any]) -> VisionConfig:
    """A vision encoder's configuration from JSON; without a ``kind`` it is the small one's.

    Raises:
        ModelError: There is no such kind, its fields are others, or their values do not fit.
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
        # JSON has lists where the dataclass has tuples
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return SmallVisionConfig(**plain)
    except (TypeError, KeyError) as error:
        raise ModelError(f"vision encoder of kind {kind!r}: {error}") from error


def write_vision(config: VisionConfig) -> dict[str, Any]:
    """Undo `read_vision`; the small encoder's has no ``kind``, as before there were others."""
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
    """The sizes of an encoder, without building it."""
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
    """Make an encoder with random weights."""
    match config:
        case SmallVisionConfig():
            return SmallVisionEncoder(config)
        case PretrainedVisionConfig():
            return PretrainedEncoder(config)
        case PyramidConfig():
            return PyramidEncoder(config)
        case MergingVisionConfig():
            return MergingEncoder(config)
