"""SAM and SAM 2 as mask decoders (u-LLaVA 3.2, after LISA; REF-VLM IV-D, stage 3).

The hidden state at `<SEG>` or `<REF>` passes a projector and replaces SAM's embeddings of points and
boxes. An image is encoded once for all references; references do not see one another. The mask
decoder is trained, the image encoder is not.

A segmenter has its own frame: SAM scales the longer side to 1024 pixels and pads to the right and
below, SAM 2 stretches to 1024 x 1024. `ImageFrame` converts in both directions without torchvision
or an image processor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, UInt8
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from deixis.batch import Batch, UnitTruth
from deixis.errors import CheckpointError, ModelError
from deixis.geometry import ImageSize, Letterbox, Mask
from deixis.models.decoders.interface import EncodedImages, Features, UnitLoss
from deixis.models.decoders.layers import QualityHead
from deixis.models.decoders.location import StateProjector
from deixis.models.decoders.placing import framed_map_at_source, whole_mask
from deixis.models.losses.anchors import Anchors
from deixis.models.losses.scoring import quality_loss, tied_zero, weighted_mean
from deixis.models.references import LatentReferences
from deixis.models.weight_files import check_folder
from deixis.structures import UnitType

_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
Fit = Literal["corner", "stretch"]
SEGMENTER_FITS: Mapping[str, Fit] = MappingProxyType(
    {"sam": "corner", "sam2": "stretch", "sam2_video": "stretch"}
)
"""How segmenters put an image into their square, by model type."""


@dataclass(frozen=True, slots=True)
class ImageFrame:
    """The frame of a segmenter: a square of ``side`` pixels.

    ``fit`` ``corner`` keeps the image's aspect ratio, places it at the top left and pads the rest;
    ``stretch`` resizes the image to the whole square.
    """

    side: int
    fit: Fit

    def filled(self, size: ImageSize) -> tuple[int, int]:
        """Return the height and width that an image of ``size`` fills, in pixels of the frame."""
        if self.fit == "stretch":
            return self.side, self.side
        scale = self.side / max(size)
        height, width = size
        return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)

    def prepare(self, image: UInt8[Tensor, "h w 3"]) -> Float[Tensor, "3 side side"]:
        """Return the segmenter's input for an RGB image; padding is 0 after normalisation."""
        height, width = self.filled(ImageSize(image.shape[0], image.shape[1]))
        resized = functional.interpolate(
            image.permute(2, 0, 1)[None].float(),
            size=(height, width),
            mode="bilinear",
            antialias=True,
            align_corners=False,
        )[0]
        mean = torch.tensor(_MEAN, device=image.device)[:, None, None]
        deviation = torch.tensor(_DEVIATION, device=image.device)[:, None, None]
        # image processors resize to uint8 before they normalise
        normed = (resized.round().clamp(0, 255) - mean) / deviation
        return functional.pad(normed, (0, self.side - width, 0, self.side - height))

    def extent(self, size: ImageSize) -> tuple[float, float]:
        """Return the shares of the frame's height and width that an image of ``size`` fills."""
        height, width = self.filled(size)
        return height / self.side, width / self.side

    def to_frame(
        self, mask: Mask, cells: int
    ) -> tuple[Bool[Tensor, "cells cells"], Bool[Tensor, "cells cells"]]:
        """Resample a source mask to ``cells`` x ``cells`` of the frame.

        Returns:
            The mask, each cell with the value of the source pixel at its centre, and the cells
            that lie inside the image.
        """
        height, width = mask.size
        down, across = self.extent(mask.size)
        ticks = (torch.arange(cells) + 0.5) / cells
        rows, columns = (ticks / down * height).long(), (ticks / across * width).long()
        inside = (rows < height)[:, None] & (columns < width)[None]
        array = torch.from_numpy(mask.array.copy())
        taken = array[rows.clamp(max=height - 1)][:, columns.clamp(max=width - 1)]
        return taken & inside, inside


@dataclass(frozen=True, slots=True)
class PromptedConfig:
    """Losses and segmenter of a prompted decoder (u-LLaVA, equation 2).

    ``loss`` ``paper`` smooths the dice loss by 1, like the other dice losses of deixis; ``code``
    follows the public code of u-LLaVA and LISA: sums divided by 1000 and smoothed by 1e-6, which
    equals a smoothing of 0.001. ``at_once`` bounds how many references are decoded together,
    ``images_at_once`` how many images are encoded together (SAM-H needs gigabytes for one); neither
    changes a result.

    ``segmenter`` is the configuration of SAM or SAM 2, as ``config.to_dict()`` returns it. A recipe
    may name a folder instead; its weights become part of the model.

    Raises:
        ModelError: A bound is below 1.
    """

    loss: Literal["paper", "code"] = "paper"
    bce: float = 2.0
    dice: float = 0.5
    quality: float = 0.25
    at_once: int = 32
    images_at_once: int = 1
    segmenter: str | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("at_once", "images_at_once"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name}: expected at least 1, got {getattr(self, name)}")

    @property
    def smoothing(self) -> float:
        """The number of pixels that the dice loss adds to numerator and denominator."""
        return 1.0 if self.loss == "paper" else 1e-3

    @property
    def frame(self) -> ImageFrame:
        """The frame of the segmenter.

        Raises:
            ModelError: ``segmenter`` is not a configuration of SAM or SAM 2.
        """
        # transformers takes seconds to import
        from transformers import AutoConfig  # noqa: PLC0415

        given = self.segmenter
        if not isinstance(given, Mapping) or given.get("model_type") not in SEGMENTER_FITS:
            raise ModelError(
                "decoder segmenter: expected the configuration of sam or sam2 as segmenter\n"
                "hint: load its weights into the part mask_decoder"
            )
        side = AutoConfig.for_model(**given).prompt_encoder_config.image_size
        return ImageFrame(int(side), SEGMENTER_FITS[given["model_type"]])


@dataclass(frozen=True, slots=True)
class PromptedPredictions:
    """Mask logits in the segmenter's frame at a quarter of its resolution, for filled references.

    ``index`` is the mask of each reference, -1 for padding. ``quality`` is the logit of the
    probability that the IoU with the truth is above 0.5.
    """

    logits: Float[Tensor, "n h w"]
    index: Int[Tensor, "b q"]
    quality: Float[Tensor, "b q"]
    anchors: tuple[Anchors, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptedTruth:
    """Truth for each filled reference in the segmenter's frame (see `ImageFrame.to_frame`).

    ``inside`` is true on the image; padding takes no part in the losses. Truth may have any
    resolution; predictions are interpolated to it.
    """

    masks: Bool[Tensor, "n h w"]
    inside: Bool[Tensor, "n h w"]
    known: Bool[Tensor, " n"]
    weights: Float[Tensor, " n"]

    def take(self, order: Int[Tensor, " n"]) -> "PromptedTruth":
        """Reorder the truth; ``weights`` and ``inside`` stay with the references."""
        return PromptedTruth(self.masks[order], self.inside, self.known[order], self.weights)


class PromptedMaskDecoder(nn.Module):
    """Decode one mask and one quality for each reference with ``SamModel`` or ``Sam2Model``.

    Only the segmenter's mask decoder is trained, without the layers that receive no gradient here:
    its IoU head and, in SAM 2, the convolutions of detail maps and the object score head.

    Raises:
        ModelError: The segmenter is neither a ``SamModel`` nor a ``Sam2Model``.
    """

    unit = UnitType.MASK.value
    capacity = None
    anchored = False

    def __init__(self, config: PromptedConfig, segmenter: Any, language_width: int) -> None:
        super().__init__()
        kind = getattr(getattr(segmenter, "config", None), "model_type", type(segmenter).__name__)
        if kind not in SEGMENTER_FITS:
            raise ModelError(f"prompted decoder: expected a SamModel or Sam2Model, got {kind!r}")
        self.config = config
        width = segmenter.config.prompt_encoder_config.hidden_size
        self.frame = ImageFrame(
            segmenter.config.prompt_encoder_config.image_size,
            SEGMENTER_FITS[kind],
        )
        self.projector = StateProjector(language_width, width)
        self.segmenter = segmenter
        self.estimate = QualityHead(width)
        segmenter.requires_grad_(False)
        segmenter.mask_decoder.requires_grad_(True)
        segmenter.mask_decoder.iou_prediction_head.requires_grad_(False)
        if kind != "sam":
            for name in ("conv_s0", "conv_s1", "pred_obj_score_head"):
                getattr(segmenter.mask_decoder, name).requires_grad_(False)
            # otherwise SAM 2 would replace unstable masks by multimask outputs, which are not trained
            segmenter.mask_decoder.dynamic_multimask_via_stability = False

    def read_truth(self, batch: Batch) -> UnitTruth[PromptedTruth] | None:
        """Return the masks of `FramedMaskReader`; None if no reference asks for one."""
        return batch.references.truth_of(self.unit, PromptedTruth)

    @torch.no_grad()
    def see(self, pixels: Float[Tensor, "b 3 side side"]) -> EncodedImages:
        """Encode images prepared by `ImageFrame.prepare`, once for all references."""
        encoded = [
            self.segmenter.get_image_embeddings(some)
            for some in pixels.to(self.segmenter.dtype).split(self.config.images_at_once)
        ]
        if isinstance(encoded[0], Tensor):
            return EncodedImages(torch.cat(encoded))
        *details, embeddings = (torch.cat(level) for level in zip(*encoded, strict=True))
        return EncodedImages(embeddings, tuple(details))

    def forward(self, references: LatentReferences, features: Features) -> PromptedPredictions:
        """Decode the filled references; padding takes no memory.

        Raises:
            ModelError: The features have no encoded images.
        """
        images = features.images
        if images is None:
            raise ModelError("prompted decoder: expected encoded images, got none")
        filled = references.filled
        rows = filled.nonzero()[:, 0]
        prompts = self.projector(references.states)
        index = torch.full(filled.shape, -1, device=filled.device)
        index[filled] = torch.arange(len(rows), device=filled.device)
        masks, ious = [], []
        for start in range(0, len(rows), self.config.at_once):
            some = slice(start, start + self.config.at_once)
            mask, iou = self._masks(prompts[filled][some], rows[some], images)
            masks.append(mask)
            ious.append(iou)
        side = self.frame.side // 4
        logits = torch.cat(masks) if masks else prompts.new_zeros(0, side, side, dtype=torch.float)
        sure = prompts.new_zeros(filled.shape, dtype=torch.float)
        if ious:
            sure = sure.masked_scatter(filled, torch.cat(ious))
        # the segmenter's IoU estimate replaces the votes that an anchored decoder would use
        states = prompts.detach() + self.estimate.sureness(sure[..., None].to(prompts.dtype))
        quality = self.estimate.estimate(states).squeeze(-1).float()
        return PromptedPredictions(logits, index, quality)

    def _masks(
        self, prompts: Float[Tensor, "n d"], rows: Int[Tensor, " n"], images: EncodedImages
    ) -> tuple[Float[Tensor, "n h w"], Float[Tensor, " n"]]:
        """Return a mask and the segmenter's IoU estimate for each reference."""
        embeddings = images.embeddings[rows]
        positions = self.segmenter.get_image_wide_positional_embeddings()
        no_mask = self.segmenter.prompt_encoder.no_mask_embed.weight
        more: dict[str, Any] = {}
        if images.details:
            more["high_resolution_features"] = [each[rows] for each in images.details]
        given = self.segmenter.mask_decoder(
            image_embeddings=embeddings,
            image_positional_embeddings=positions.expand(len(rows), -1, -1, -1),
            sparse_prompt_embeddings=prompts[:, None, None],
            dense_prompt_embeddings=no_mask.reshape(1, -1, 1, 1).expand_as(embeddings),
            multimask_output=False,
            **more,
        )
        return given[0][:, 0, 0].float(), given[1][:, 0, 0].detach().float()

    def costs(
        self,
        decoded: PromptedPredictions,
        truth: PromptedTruth,
        filled: Bool[Tensor, "b q"],
        members: Int[Tensor, "g most"],
    ) -> Float[Tensor, "g most most"]:
        """Return the cross-entropy and dice of every pair; zero where the truth is not known."""
        del filled
        index = members.clamp(min=0)
        logits = resized(decoded.logits.detach(), truth.masks.shape[-1]).flatten(1)
        inside = truth.inside.flatten(1)[index]
        masks = truth.masks.flatten(1).float()[index]
        # sums over pixels as products: entropy(x, t) = softplus(x) - x t
        some = logits[index]
        area = inside.sum(-1).clamp(min=1)[:, :, None]
        kept = some * inside
        entropy = (functional.softplus(some) * inside).sum(-1)[:, :, None]
        bce = (entropy - kept @ masks.transpose(1, 2)) / area
        chance = some.sigmoid() * inside
        shared = 2 * chance @ masks.transpose(1, 2) + self.config.smoothing
        whole = chance.sum(-1)[:, :, None] + masks.sum(-1)[:, None] + self.config.smoothing
        cost = self.config.bce * bce + self.config.dice * (1 - shared / whole)
        return cost.masked_fill(~truth.known[index][:, None], 0.0)

    def losses(
        self, decoded: PromptedPredictions, truth: PromptedTruth, filled: Bool[Tensor, "b q"]
    ) -> UnitLoss:
        """Cross-entropy (mean over pixels), dice and quality."""
        tied = tied_zero(self)
        known = truth.known & truth.inside.flatten(1).any(-1)
        if not bool(known.any()):
            zero = tied.detach()
            return UnitLoss(tied, dict.fromkeys(_PARTS, zero), {"prompted_mask_iou": zero})
        scale = truth.weights[known]
        inside = truth.inside[known].flatten(1)
        masks = truth.masks[known].flatten(1).float() * inside
        logits = resized(decoded.logits[known], truth.masks.shape[-1]).flatten(1)
        bce, dice = pixel_losses(logits, masks, inside, smoothing=self.config.smoothing)
        with torch.no_grad():
            hard = (logits > 0) & inside
            shared = (hard * masks).sum(-1)
            iou = shared / (hard.sum(-1) + masks.sum(-1) - shared).clamp(min=1)
        parts = {
            "bce": weighted_mean(bce, scale),
            "dice": weighted_mean(dice, scale),
            "quality": quality_loss(decoded.quality[filled][known], iou, scale),
        }
        loss = (
            self.config.bce * parts["bce"]
            + self.config.dice * parts["dice"]
            + self.config.quality * parts["quality"]
        )
        measures = {"prompted_mask_iou": weighted_mean(iou, scale)}
        return UnitLoss(loss + tied, {name: parts[name].detach() for name in _PARTS}, measures)

    def to_unit(
        self, decoded: PromptedPredictions, row: int, position: int, letterbox: Letterbox
    ) -> Mask:
        """Return the mask of one reference at the size of its source image.

        Raises:
            GeometryError: The mask is empty.
        """
        logits = decoded.logits[int(decoded.index[row, position])]
        size = letterbox.source
        return whole_mask(framed_map_at_source(logits, size, extent=self.frame.extent(size)))


def pixel_losses(
    logits: Float[Tensor, "n p"],
    target: Float[Tensor, "n p"],
    inside: Bool[Tensor, "n p"],
    *,
    smoothing: float = 1.0,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return the mean cross-entropy and 1 - (2 Σpg + s) / (Σp + Σg + s) over the pixels inside."""
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * inside
    chance = logits.sigmoid() * inside
    shared = 2 * (chance * target).sum(-1) + smoothing
    whole = chance.sum(-1) + (target * inside).sum(-1) + smoothing
    return each.sum(-1) / inside.sum(-1).clamp(min=1), 1 - shared / whole


def resized(logits: Float[Tensor, "n h w"], side: int) -> Float[Tensor, "n side side"]:
    """Resize mask logits bilinearly to ``side`` x ``side``."""
    if logits.shape[-1] == side or not len(logits):
        return logits if logits.shape[-1] == side else logits.new_zeros(0, side, side)
    larger = functional.interpolate(logits[:, None], size=(side, side), mode="bilinear")
    return larger[:, 0]


def load_segmenter(folder: Path) -> Any:
    """Load a ``SamModel`` or ``Sam2Model`` in float32 from a folder of config.json and safetensors.

    Raises:
        CheckpointError: Files are missing or damaged, or the weights do not fit.
        ModelError: The model is not SAM or SAM 2.
    """
    # transformers takes seconds to import
    from transformers import AutoConfig, Sam2Model, SamModel  # noqa: PLC0415

    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise CheckpointError(f"segmenter {folder}: expected config.json and safetensors there")
    try:
        kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
        if kind not in SEGMENTER_FITS:
            raise ModelError(f"segmenter {folder}: expected sam or sam2, got {kind!r}")
        check_folder(folder, f"segmenter {folder}")
        loader: Any = SamModel if kind == "sam" else Sam2Model
        model, report = loader.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"segmenter {folder}: {str(error).splitlines()[0]}") from error
    wrong = {key: sorted(report[key]) for key in ("missing_keys", "unexpected_keys") if report[key]}
    if wrong:
        raise CheckpointError(f"segmenter {folder}: weights do not fit: {wrong}")
    return model.eval()


def build_prompted(config: PromptedConfig, language_width: int) -> PromptedMaskDecoder:
    """Build a prompted decoder.

    If ``config.segmenter`` is a folder, its weights are loaded; if it is a configuration, weights
    are random until a checkpoint of the whole decoder is loaded.

    Raises:
        CheckpointError: Files are missing or damaged, or the weights do not fit.
        ModelError: The segmenter is missing, or is not SAM or SAM 2.
    """
    # transformers takes seconds to import
    from transformers import AutoConfig, Sam2Model, SamModel  # noqa: PLC0415

    given = config.segmenter
    if isinstance(given, str):
        segmenter = load_segmenter(Path(given))
    elif isinstance(given, Mapping) and given.get("model_type") in SEGMENTER_FITS:
        kind: Any = SamModel if given["model_type"] == "sam" else Sam2Model
        segmenter = kind(AutoConfig.for_model(**given)).eval()
    else:
        raise ModelError("prompted decoder: expected a folder or configuration of sam or sam2")
    return PromptedMaskDecoder(config, segmenter, language_width)


_PARTS = ("bce", "dice", "quality")
