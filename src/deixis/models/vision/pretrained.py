"""Pretrained image encoders of the Hugging Face hub, with tokens and a feature pyramid.

Layer 0 is the input of the first block and layer -1 the output of the last block, before a final
norm; ``"last"`` is the output of that norm. LLaVA, Pink, u-LLaVA and REF-VLM read CLIP at layer -2
without the class token.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
import transformers
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from deixis.errors import ModelError
from deixis.models.vision.features import VisionFeatures
from deixis.models.vision.normalisation import CLIP, IMAGENET, SIGNED, Normalisation

Layer = int | Literal["last"]
"""A layer by its number, or ``"last"``: the output of the final norm."""


@dataclass(frozen=True, slots=True)
class EncoderFamily:
    """How to build and read the models of one Hugging Face type.

    ``cells`` is the form of a layer: a sequence of ``patches``, patches that were cut in advance
    (``packed``), or the ``maps`` of a convolutional stage. ``prefix`` is the number of tokens
    before the first patch, without registers. ``asks``: whether other image sizes need the argument
    that interpolates positions.
    """

    model: str
    cells: Literal["patches", "packed", "maps"]
    normalisation: Normalisation
    prefix: int = 0
    asks: bool = False


FAMILIES: dict[str, EncoderFamily] = {
    "blip_2_vision_model": EncoderFamily("Blip2VisionModel", "patches", CLIP, prefix=1, asks=True),
    "clip_vision_model": EncoderFamily("CLIPVisionModel", "patches", CLIP, prefix=1, asks=True),
    "convnext": EncoderFamily("ConvNextModel", "maps", IMAGENET),
    "convnextv2": EncoderFamily("ConvNextV2Model", "maps", IMAGENET),
    "dinov2": EncoderFamily("Dinov2Model", "patches", IMAGENET, prefix=1),
    "dinov2_with_registers": EncoderFamily(
        "Dinov2WithRegistersModel", "patches", IMAGENET, prefix=1
    ),
    "dinov3_convnext": EncoderFamily("DINOv3ConvNextModel", "maps", IMAGENET),
    "dinov3_vit": EncoderFamily("DINOv3ViTModel", "patches", IMAGENET, prefix=1),
    "instructblip_vision_model": EncoderFamily(
        "InstructBlipVisionModel", "patches", CLIP, prefix=1, asks=True
    ),
    "siglip2_vision_model": EncoderFamily("Siglip2VisionModel", "packed", SIGNED),
    "siglip_vision_model": EncoderFamily("SiglipVisionModel", "patches", SIGNED, asks=True),
    "vit": EncoderFamily("ViTModel", "patches", SIGNED, prefix=1, asks=True),
}
"""Supported families by model type. The vision model of BLIP-2 is EVA-CLIP's ViT-g/14."""

# DINOv3 distorts positions randomly in pre-training; fine-tuning does not use that
_UNWANTED = ("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale")


def encoder_family(model_type: str) -> EncoderFamily:
    """Return the family of a Hugging Face model type.

    Raises:
        ModelError: The type is not supported.
    """
    if model_type not in FAMILIES:
        raise ModelError(
            f"unknown kind of image encoder {model_type!r}; expected one of {sorted(FAMILIES)}"
        )
    return FAMILIES[model_type]


def with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields of an encoder's configuration with tuples in place of JSON's lists."""
    values = dict(fields)
    for name in ("mean", "std"):
        if name in values:
            values[name] = tuple(values[name])
    if "pyramid" in values:
        values["pyramid"] = tuple((layer, scale) for layer, scale in values["pyramid"])
    return values


@dataclass(frozen=True, slots=True)
class PretrainedVisionConfig:
    """The configuration of a pretrained image encoder: layers and resolution.

    Attributes:
        model: Configuration of the encoder with its ``model_type``, in the Hugging Face layout.
        image_size: Side of the square canvas in pixels; a multiple of the patch or stride.
        layer: The layer of the image tokens; for a convolutional encoder a stage, counted from 0.
        class_token: Whether to include the class token, before the patches.
        pyramid: Layer and magnification of each level, fine to coarse. Empty for the default: a
            ViT's layer at four times, twice and once its grid, or every stage of a ConvNeXt.
        uneven: Whether the canvas side need not be a multiple of the cell side; a rest at the right
            and bottom is then not used, as by ConvNeXt at 336 px or SigLIP with 14 px patches at
            384 px.
        mean: Mean of red, green and blue in [0, 1] for normalisation.
        std: Standard deviation of red, green and blue.

    Raises:
        ModelError: The encoder's type is unknown, or it lacks the layer, class token or resolution.
    """

    model: dict[str, Any]
    image_size: int
    layer: Layer = -2
    class_token: bool = False
    pyramid: tuple[tuple[Layer, float], ...] = ()
    uneven: bool = False
    mean: tuple[float, float, float] = CLIP.mean
    std: tuple[float, float, float] = CLIP.std

    def __post_init__(self) -> None:
        if self.image_size < self.stride or (self.image_size % self.stride and not self.uneven):
            raise ModelError(
                f"image size {self.image_size}: expected a multiple of the encoder's "
                f"{self.stride} pixels, so that cells tile the canvas"
            )
        if self.class_token and not self.family.prefix:
            raise ModelError(f"an encoder of type {self.model_type} has no class token")
        for layer, scale in ((self.layer, 1.0), *self.pyramid):
            self.place_of(layer)
            if not scale > 0:
                raise ModelError(f"magnification of a pyramid level: expected > 0, got {scale}")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "PretrainedVisionConfig":
        """Build from `dataclasses.asdict`, also with lists in place of tuples."""
        return cls(**with_tuples(fields))

    @property
    def model_type(self) -> str:
        """The Hugging Face type of the encoder."""
        return str(self.model.get("model_type"))

    @property
    def family(self) -> EncoderFamily:
        """The family of the encoder."""
        return encoder_family(self.model_type)

    @property
    def normalisation(self) -> Normalisation:
        """The normalisation of pixels for the encoder."""
        return Normalisation(self.mean, self.std)

    @property
    def library(self) -> PreTrainedConfig:
        """The Hugging Face configuration of the encoder."""
        return copy.deepcopy(self._built)

    @property
    def _built(self) -> PreTrainedConfig:
        return _build_library_config(json.dumps(self.model, sort_keys=True))

    @property
    def stride(self) -> int:
        """Side of the coarsest cell in pixels: a patch, or the stride of the last stage."""
        if self.family.cells != "maps":
            return int(self._built.patch_size)
        return 4 * 2 ** (self.num_layers - 1)

    @property
    def num_layers(self) -> int:
        """Number of layers: hidden states of a ViT (blocks + 1), stages of a ConvNeXt."""
        if self.family.cells == "maps":
            return len(self._built.hidden_sizes)
        return int(self._built.num_hidden_layers) + 1

    @property
    def levels(self) -> tuple[tuple[Layer, float], ...]:
        """The levels of the pyramid, with the default applied."""
        if self.pyramid:
            return self.pyramid
        if self.family.cells == "maps":
            return tuple((stage, 1.0) for stage in range(self.num_layers))
        return (self.layer, 4.0), (self.layer, 2.0), (self.layer, 1.0)

    def place_of(self, layer: Layer) -> int:
        """Return the index of a layer, counted from 0; the final norm comes after all others.

        Raises:
            ModelError: The layer does not exist.
        """
        if layer == "last":
            if self.family.cells == "maps":
                raise ModelError("layer 'last': a convolutional encoder is read by its stages")
            return self.num_layers
        if not -self.num_layers <= layer < self.num_layers:
            raise ModelError(
                f"layer {layer}: expected one of the encoder's {self.num_layers} layers"
            )
        return layer % self.num_layers

    def width_of(self, layer: Layer) -> int:
        """Return the channels of a layer."""
        if self.family.cells == "maps":
            return int(self._built.hidden_sizes[self.place_of(layer)])
        return int(self._built.hidden_size)

    def grid_of(self, layer: Layer) -> int:
        """Return the cells per side of a layer."""
        if self.family.cells == "maps":
            return self.image_size // (4 * 2 ** self.place_of(layer))
        return self.image_size // self.stride

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the pyramid, fine to coarse."""
        return tuple(self.width_of(layer) for layer, _ in self.levels)

    @property
    def grids(self) -> tuple[int, ...]:
        """Cells per side of each level of the pyramid."""
        return tuple(max(1, round(self.grid_of(layer) * scale)) for layer, scale in self.levels)

    @property
    def token_width(self) -> int:
        """Channels of a token."""
        return self.width_of(self.layer)

    @property
    def num_tokens(self) -> int:
        """Number of tokens per image."""
        return self.grid_of(self.layer) ** 2 + int(self.class_token)


class PretrainedEncoder(nn.Module):
    """A pretrained image encoder: from canvases to tokens and a pyramid.

    `encode` runs the network and `assemble` rearranges and resamples its output, so a cache stores
    the results of `encode` only. A frozen encoder stays in evaluation mode under `train`, so that
    its features are deterministic.
    """

    def __init__(self, config: PretrainedVisionConfig) -> None:
        super().__init__()
        self.config = config
        model_class: type[PreTrainedModel] = getattr(transformers, config.family.model)
        self.model = model_class(config.library)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the pyramid, fine to coarse."""
        return self.config.widths

    @property
    def grids(self) -> tuple[int, ...]:
        """Cells per side of each level of the pyramid."""
        return self.config.grids

    @property
    def token_width(self) -> int:
        """Channels of a token."""
        return self.config.token_width

    @property
    def num_tokens(self) -> int:
        """Number of tokens per image."""
        return self.config.num_tokens

    @property
    def normalisation(self) -> Normalisation:
        """The normalisation of pixels, applied in `encode`."""
        return self.config.normalisation

    def freeze(self) -> "PretrainedEncoder":
        """Freeze all parameters and return the encoder."""
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> "PretrainedEncoder":  # noqa: FBT001, FBT002  # torch's
        """Switch to training mode, unless everything is frozen."""
        return super().train(mode and any(p.requires_grad for p in self.parameters()))

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b ..."]]:
        """Run the network on canvases in [-1, 1].

        Returns:
            The input of `assemble`: ``class`` of shape (b, width) if the class token is kept, and
            each layer under its index: (b, cells, width) for a ViT, (b, width, h, w) for a stage.

        Raises:
            ModelError: The canvases do not have the configured size.
        """
        size = self.config.image_size
        if tuple(pixels.shape[-2:]) != (size, size):
            raise ModelError(
                f"canvas of {pixels.shape[-1]}x{pixels.shape[-2]}: the encoder expects {size}x{size}"
            )
        places = {self.config.place_of(layer) for layer, _ in self.config.levels}
        token_place = self.config.place_of(self.config.layer)
        places.add(token_place)
        states = self._states(self.normalisation.from_signed(pixels).to(self.model.dtype))
        if self.config.family.cells == "maps":
            return {str(place): states[place] for place in sorted(places)}
        cells = self.config.grid_of(self.config.layer) ** 2
        # registers lie between the class token and the patches, so count from the end
        parts = {str(place): states[place][:, -cells:] for place in sorted(places)}
        if self.config.class_token:
            parts["class"] = states[token_place][:, 0]
        return parts

    def assemble(self, parts: Mapping[str, Float[Tensor, "b ..."]]) -> VisionFeatures:
        """Return tokens and pyramid from the results of `encode`; there are no parameters here."""
        levels = zip(self.config.levels, self.grids, strict=True)
        return VisionFeatures(
            self.tokens(parts),
            tuple(resample(self.map(parts, layer), grid) for (layer, _), grid in levels),
        )

    def tokens(self, parts: Mapping[str, Float[Tensor, "b ..."]]) -> Float[Tensor, "b n d"]:
        """Return the image tokens from the results of `encode`."""
        tokens = parts[str(self.config.place_of(self.config.layer))]
        if self.config.family.cells == "maps":
            tokens = tokens.flatten(2).transpose(1, 2)
        if self.config.class_token:
            tokens = torch.cat([parts["class"][:, None], tokens], dim=1)
        return tokens

    def map(
        self, parts: Mapping[str, Float[Tensor, "b ..."]], layer: Layer
    ) -> Float[Tensor, "b c h w"]:
        """Return a layer as a map over the canvas, from the results of `encode`."""
        cells = parts[str(self.config.place_of(layer))]
        if self.config.family.cells == "maps":
            return cells
        grid = self.config.grid_of(layer)
        return cells.transpose(1, 2).unflatten(2, (grid, grid))

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> VisionFeatures:
        """Encode canvases of ``image_size``; ``pixels`` lie in [-1, 1]."""
        return self.assemble(self.encode(pixels))

    def _states(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Return every layer in order, then the output of the final norm."""
        family = self.config.family
        if family.cells == "packed":
            patches, shapes = pack_patches(pixels, self.config.stride)
            seen = torch.ones(patches.shape[:2], dtype=torch.long, device=pixels.device)
            output = self.model(
                pixel_values=patches,
                pixel_attention_mask=seen,
                spatial_shapes=shapes,
                output_hidden_states=True,
            )
            return (*output.hidden_states, output.last_hidden_state)
        asked = {"interpolate_pos_encoding": True} if family.asks else {}
        output = self.model(pixel_values=pixels, output_hidden_states=True, **asked)
        if family.cells == "maps":
            # the first is the stem or the image itself
            return tuple(output.hidden_states[1:])
        return (*output.hidden_states, output.last_hidden_state)


def resample(maps: Float[Tensor, "b c h w"], grid: int) -> Float[Tensor, "b c grid grid"]:
    """Resample maps to ``grid`` cells per side: bilinear to enlarge, cell means to shrink."""
    if maps.shape[-2:] == (grid, grid):
        return maps
    if grid < maps.shape[-1]:
        return functional.adaptive_avg_pool2d(maps, grid)
    return functional.interpolate(maps, size=(grid, grid), mode="bilinear", align_corners=False)


def pack_patches(
    pixels: Float[Tensor, "b 3 h w"], side: int
) -> tuple[Float[Tensor, "b cells values"], Tensor]:
    """Cut canvases into patches in the layout of SigLIP 2 (NaFlex): row-major, channels last.

    Returns:
        The patches, and the numbers of rows and columns of each image.
    """
    rows, columns = pixels.shape[-2] // side, pixels.shape[-1] // side
    whole = pixels[..., : rows * side, : columns * side]
    cut = whole.unflatten(3, (columns, side)).unflatten(2, (rows, side))
    patches = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    shape = torch.tensor([[rows, columns]], device=pixels.device)
    return patches, shape.expand(len(pixels), 2)


def vision_config(
    model: PreTrainedConfig | Mapping[str, Any],
    *,
    image_size: int | None = None,
    layer: Layer | None = None,
    class_token: bool = False,
    pyramid: tuple[tuple[Layer, float], ...] = (),
    uneven: bool = False,
    normalisation: Normalisation | None = None,
) -> PretrainedVisionConfig:
    """Return the configuration of an encoder from its Hugging Face configuration.

    For a whole vision-language model, this is the configuration of its vision part. ``image_size``
    and ``normalisation`` default to those of the encoder, ``layer`` to -2 for a ViT and -1 for a
    ConvNeXt.

    Raises:
        ModelError: The encoder is not supported, or lacks the layer or resolution.
    """
    found = model if isinstance(model, PreTrainedConfig) else _library_config(model)
    part = getattr(found, "vision_config", None)
    if isinstance(part, PreTrainedConfig):
        found = part
    family = encoder_family(found.model_type)
    fields = {
        name: value
        for name, value in found.to_diff_dict().items()
        if name not in {"architectures", "dtype", "transformers_version", "auto_map"}
    }
    fields["model_type"] = found.model_type
    chosen = layer if layer is not None else (-1 if family.cells == "maps" else -2)
    own = normalisation if normalisation is not None else family.normalisation
    return PretrainedVisionConfig(
        model=fields,
        image_size=image_size if image_size is not None else _native_size(found),
        layer=chosen,
        class_token=class_token,
        pyramid=pyramid,
        uneven=uneven,
        mean=own.mean,
        std=own.std,
    )


def vision_fields(config: PretrainedVisionConfig) -> dict[str, Any]:
    """Return a configuration as data for JSON and `PretrainedVisionConfig.from_dict`."""
    return asdict(config)


@lru_cache(maxsize=32)
def _build_library_config(text: str) -> PreTrainedConfig:
    built = _library_config(json.loads(text))
    for name in _UNWANTED:
        if hasattr(built, name):
            setattr(built, name, None)
    return built


def _library_config(fields: Mapping[str, Any]) -> PreTrainedConfig:
    values = {name: value for name, value in fields.items() if name != "model_type"}
    try:
        return AutoConfig.for_model(str(fields.get("model_type")), **values)
    except ValueError as error:
        raise ModelError(
            f"unknown kind of image encoder {fields.get('model_type')!r}; "
            f"expected one of {sorted(FAMILIES)}"
        ) from error


def _native_size(config: PreTrainedConfig) -> int:
    patches = getattr(config, "num_patches", None)
    if patches is not None:
        return round(patches**0.5) * int(config.patch_size)
    return int(config.image_size)
