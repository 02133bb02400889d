"""Image encoders of the Hugging Face hub behind our interface: tokens and a feature pyramid.

Where a model's layers are numbered, layer 0 is what enters its first block and layer -1 what
leaves its last one, before any closing norm; ``"last"`` is the output after that norm. LLaVA,
Pink, u-LLaVA and REF-VLM read CLIP at layer -2 without the class token.
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
"""A layer by its number, or the output after the closing norm."""


@dataclass(frozen=True, slots=True)
class EncoderFamily:
    """How the models of one Hugging Face type are built and read.

    ``cells`` says what a layer gives: a sequence of ``patches``, the same from patches that were
    cut before (``packed``), or the ``maps`` of a convolutional stage. ``prefix`` counts tokens
    before the first patch, without registers. ``asks`` says that the model takes other sizes only
    when told to interpolate its positions.
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
"""Model types that can see for us. The vision model of BLIP-2 is EVA-CLIP's ViT-g/14."""

# random stretching of positions belongs to DINOv3's pre-training, not to what is trained on top
_UNWANTED = ("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale")


def encoder_family(model_type: str) -> EncoderFamily:
    """How models of a Hugging Face type are read.

    Raises:
        ModelError: We do not know how to read that type.
    """
    if model_type not in FAMILIES:
        raise ModelError(
            f"unknown kind of image encoder {model_type!r}; expected one of {sorted(FAMILIES)}"
        )
    return FAMILIES[model_type]


def with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an encoder's configuration with tuples where JSON has lists."""
    values = dict(fields)
    for name in ("mean", "std"):
        if name in values:
            values[name] = tuple(values[name])
    if "pyramid" in values:
        values["pyramid"] = tuple((layer, scale) for layer, scale in values["pyramid"])
    return values


@dataclass(frozen=True, slots=True)
class PretrainedVisionConfig:
    """Which encoder, which of its layers, at which resolution.

    Attributes:
        model: The encoder's own configuration with its ``model_type``, as Hugging Face writes it.
        image_size: Side of the square canvas in pixels; a multiple of the patch or stride.
        layer: The layer that image tokens are read from; for a convolutional encoder a stage,
            counted from 0.
        class_token: Whether the class token comes before the patches.
        pyramid: Layer and magnification of each level, fine to coarse; none for the default: a
            ViT's layer at four times, twice and once its grid, a ConvNeXt's every stage.
        uneven: Whether cells may leave a rest of the canvas unseen at its right and bottom, as those
            of a ConvNeXt at 336 px or a SigLIP of 14 px patches at 384 px do.
        mean: What the encoder expects as the mean of red, green and blue in [0, 1].
        std: Their standard deviations.

    Raises:
        ModelError: The encoder is of an unknown kind, or it has no such layer, class token or
            resolution.
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
        """Undo `dataclasses.asdict`, also after JSON has turned tuples into lists."""
        return cls(**with_tuples(fields))

    @property
    def model_type(self) -> str:
        """The encoder's type, in Hugging Face's words."""
        return str(self.model.get("model_type"))

    @property
    def family(self) -> EncoderFamily:
        """How the encoder is read."""
        return encoder_family(self.model_type)

    @property
    def normalisation(self) -> Normalisation:
        """What the encoder expects of pixels."""
        return Normalisation(self.mean, self.std)

    @property
    def library(self) -> PreTrainedConfig:
        """The encoder's own configuration object."""
        return copy.deepcopy(self._built)

    @property
    def _built(self) -> PreTrainedConfig:
        return _build_library_config(json.dumps(self.model, sort_keys=True))

    @property
    def stride(self) -> int:
        """Pixels along a side of the coarsest cell: a patch, or the last stage's stride."""
        if self.family.cells != "maps":
            return int(self._built.patch_size)
        return 4 * 2 ** (self.num_layers - 1)

    @property
    def num_layers(self) -> int:
        """Layers that can be read: hidden states of a ViT (blocks + 1), stages of a ConvNeXt."""
        if self.family.cells == "maps":
            return len(self._built.hidden_sizes)
        return int(self._built.num_hidden_layers) + 1

    @property
    def levels(self) -> tuple[tuple[Layer, float], ...]:
        """The pyramid with its default written out."""
        if self.pyramid:
            return self.pyramid
        if self.family.cells == "maps":
            return tuple((stage, 1.0) for stage in range(self.num_layers))
        return (self.layer, 4.0), (self.layer, 2.0), (self.layer, 1.0)

    def place_of(self, layer: Layer) -> int:
        """A layer's number counted from 0; the closing norm's output comes after all others.

        Raises:
            ModelError: There is no such layer.
        """
        if layer == "last":
            if self.family.cells == "maps":
                raise ModelError("layer 'last': a convolutional encoder is read by its stages")
            return self.num_layers
        if not -self.num_layers <= layer < self.num_layers:
            raise ModelError(f"layer {layer}: the encoder has {self.num_layers} of them")
        return layer % self.num_layers

    def width_of(self, layer: Layer) -> int:
        """Channels of a layer."""
        if self.family.cells == "maps":
            return int(self._built.hidden_sizes[self.place_of(layer)])
        return int(self._built.hidden_size)

    def grid_of(self, layer: Layer) -> int:
        """Cells along a side of a layer."""
        if self.family.cells == "maps":
            return self.image_size // (4 * 2 ** self.place_of(layer))
        return self.image_size // self.stride

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the pyramid, fine to coarse."""
        return tuple(self.width_of(layer) for layer, _ in self.levels)

    @property
    def grids(self) -> tuple[int, ...]:
        """Cells along a side of each level of the pyramid."""
        return tuple(max(1, round(self.grid_of(layer) * scale)) for layer, scale in self.levels)

    @property
    def token_width(self) -> int:
        """Channels of a token."""
        return self.width_of(self.layer)

    @property
    def num_tokens(self) -> int:
        """Tokens that one image becomes."""
        return self.grid_of(self.layer) ** 2 + int(self.class_token)


class PretrainedEncoder(nn.Module):
    """An image encoder of the Hugging Face hub: canvases to tokens and a pyramid.

    `encode` is the network, `assemble` what is only rearranged and resampled, so that a cache
    need hold no more than the former gives. A frozen encoder stays in evaluation mode whatever
    `train` is told: nothing in it is random then.
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
        """Cells along a side of each level of the pyramid."""
        return self.config.grids

    @property
    def token_width(self) -> int:
        """Channels of a token."""
        return self.config.token_width

    @property
    def num_tokens(self) -> int:
        """Tokens that one image becomes."""
        return self.config.num_tokens

    @property
    def normalisation(self) -> Normalisation:
        """What the encoder expects of pixels; it is applied in `encode`."""
        return self.config.normalisation

    def freeze(self) -> "PretrainedEncoder":
        """Train nothing of it."""
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> "PretrainedEncoder":  # noqa: FBT001, FBT002  # torch's
        """Switch to training mode, unless everything is frozen."""
        return super().train(mode and any(p.requires_grad for p in self.parameters()))

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b ..."]]:
        """Run the network on canvases in [-1, 1].

        Returns:
            What `assemble` needs: ``class`` of (b, width) where the class token is kept, and each
            layer by its number from 0, a ViT's as (b, cells, width), a stage's as
            (b, width, h, w).

        Raises:
            ModelError: The canvases have another size than the configuration says.
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
        # registers stand between the class token and the patches, so count from the end
        parts = {str(place): states[place][:, -cells:] for place in sorted(places)}
        if self.config.class_token:
            parts["class"] = states[token_place][:, 0]
        return parts

    def assemble(self, parts: Mapping[str, Float[Tensor, "b ..."]]) -> VisionFeatures:
        """Tokens and pyramid from what `encode` gave; nothing here has parameters."""
        levels = zip(self.config.levels, self.grids, strict=True)
        return VisionFeatures(
            self.tokens(parts),
            tuple(resample(self.map(parts, layer), grid) for (layer, _), grid in levels),
        )

    def tokens(self, parts: Mapping[str, Float[Tensor, "b ..."]]) -> Float[Tensor, "b n d"]:
        """What goes into the language model, from what `encode` gave."""
        tokens = parts[str(self.config.place_of(self.config.layer))]
        if self.config.family.cells == "maps":
            tokens = tokens.flatten(2).transpose(1, 2)
        if self.config.class_token:
            tokens = torch.cat([parts["class"][:, None], tokens], dim=1)
        return tokens

    def map(
        self, parts: Mapping[str, Float[Tensor, "b ..."]], layer: Layer
    ) -> Float[Tensor, "b c h w"]:
        """A layer laid out over the canvas, from what `encode` gave."""
        cells = parts[str(self.config.place_of(layer))]
        if self.config.family.cells == "maps":
            return cells
        grid = self.config.grid_of(layer)
        return cells.transpose(1, 2).unflatten(2, (grid, grid))

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> VisionFeatures:
        """Encode canvases of ``image_size``; ``pixels`` lie in [-1, 1]."""
        return self.assemble(self.encode(pixels))

    def _states(self, pixels: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Every layer in order, then the output after the closing norm."""
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
            # the first is the stem, or even the image
            return tuple(output.hidden_states[1:])
        return (*output.hidden_states, output.last_hidden_state)


def resample(maps: Float[Tensor, "b c h w"], grid: int) -> Float[Tensor, "b c grid grid"]:
    """A map at another resolution: bilinear where it grows, the mean of what it covers else."""
    if maps.shape[-2:] == (grid, grid):
        return maps
    if grid < maps.shape[-1]:
        return functional.adaptive_avg_pool2d(maps, grid)
    return functional.interpolate(maps, size=(grid, grid), mode="bilinear", align_corners=False)


def pack_patches(
    pixels: Float[Tensor, "b 3 h w"], side: int
) -> tuple[Float[Tensor, "b cells values"], Tensor]:
    """Cut canvases into patches as SigLIP 2 (NaFlex) wants them: row by row, channels innermost.

    Returns:
        The patches, and (rows, columns) of each image.
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
    """Describe an encoder by its Hugging Face configuration.

    A configuration of a whole vision-language model gives that of its vision part. Without
    ``image_size`` and ``normalisation`` the encoder's own are taken; without ``layer``, -2 of a
    ViT and -1 of a ConvNeXt.

    Raises:
        ModelError: We cannot read such an encoder, or it has no such layer or resolution.
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
    """A configuration as JSON can hold it; `PretrainedVisionConfig.from_dict` undoes it."""
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
