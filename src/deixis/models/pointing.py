"""The composite model: language that points. The file to read first.

A forward pass, in order:

1. the vision encoder turns canvases into tokens and a feature pyramid;
2. the pixel decoder merges the pyramid into cells (to attend to) and pixels (to cut masks from);
3. image tokens pass the projector, region tokens the region encoder, and both take the place of
   their placeholder tokens among the text;
4. the language model reads the sequence; the hidden state at each `<REF>` is gathered;
5. the unit decoders turn each gathered state into a box and a mask;
6. with truth given, references of a group take their truth by Hungarian matching, and the losses
   of language, boxes, masks and concepts are added.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Cache, PreTrainedModel

from deixis.errors import ModelError
from deixis.models import losses
from deixis.models.config import PointingVLMConfig
from deixis.models.decoders import (
    BoxDecoder,
    BoxPredictions,
    MaskDecoder,
    MaskPredictions,
    PixelDecoder,
    PixelFeatures,
)
from deixis.models.decoders.layers import Anchors
from deixis.models.matching import match_groups
from deixis.models.positions import sine_positions
from deixis.models.projector import Projector
from deixis.models.references import LatentReferences, route_references
from deixis.models.regions import MaskGuidedAggregation
from deixis.models.vision import SmallVisionEncoder

CELL_LEVEL, PIXEL_LEVEL = 2, 0


@dataclass(frozen=True, slots=True)
class SeenImages:
    """Images after the vision encoder: tokens for the language model, maps for the decoders."""

    tokens: Float[Tensor, "b n d"]
    maps: PixelFeatures


@dataclass(frozen=True, slots=True)
class DecodedUnits:
    """What the decoders made of the references; None where the model has no such decoder."""

    references: LatentReferences
    boxes: BoxPredictions | None
    masks: MaskPredictions | None


@dataclass(frozen=True, slots=True)
class Truth:
    """Truth for the references of a batch; fields as in `deixis.processing.batch.References`."""

    boxes: Float[Tensor, "n 4"]
    has_box: Bool[Tensor, " n"]
    masks: Float[Tensor, "n mh mw"]
    has_mask: Bool[Tensor, " n"]
    groups: Int[Tensor, "g most"]
    weights: Float[Tensor, " n"]


@dataclass(frozen=True, slots=True)
class PointingOutput:
    """Losses by name, weighted sum first, and what was measured on the way."""

    loss: Float[Tensor, ""]
    parts: dict[str, Float[Tensor, ""]]
    measures: dict[str, Float[Tensor, ""]]


class RegionEncoder(nn.Module):
    """Regions to tokens: aggregation under the mask, then a projector."""

    def __init__(self, cell_width: int, language_width: int, num_tokens: int) -> None:
        super().__init__()
        self.aggregate = MaskGuidedAggregation(num_tokens)
        self.projector = Projector(cell_width, language_width)

    def forward(
        self,
        cells: Float[Tensor, "b c h w"],
        masks: Float[Tensor, "r mh mw"],
        rows: Int[Tensor, " r"],
    ) -> Float[Tensor, "r n d"]:
        """Give ``num_tokens`` vectors for each region; ``rows`` says whose image it lies on."""
        positions = sine_positions(cells.shape[-1], cells.shape[1], device=cells.device)
        placed = cells + positions.T.unflatten(1, cells.shape[-2:])
        return self.projector(self.aggregate(placed, masks, rows))


class ConceptHead(nn.Module):
    """Tell from a cell alone which words hold there; serves training only."""

    def __init__(self, cell_width: int, count: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(cell_width)
        self.words = nn.Linear(cell_width, count)
        nn.init.constant_(self.words.bias, -3.0)

    def forward(self, cells: Float[Tensor, "b c h w"]) -> Float[Tensor, "b cells known"]:
        """Give a logit for each cell and word."""
        return self.words(self.norm(cells.flatten(2).transpose(1, 2)))


class PointingVLM(PreTrainedModel):
    """Vision encoder, projector, region encoder, language model and unit decoders, by name.

    Parts are the direct children: ``vision_encoder``, ``projector``, ``region_encoder``,
    ``language_model``, ``pixel_decoder``, ``box_decoder``, ``mask_decoder``, ``concept_head``.
    """

    config_class = PointingVLMConfig
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(self, config: PointingVLMConfig) -> None:
        super().__init__(config)
        if config.text_config is None:
            raise ModelError("a pointing model needs a text_config")
        width = config.text_config.hidden_size
        self.vision_encoder = SmallVisionEncoder(config.vision_config)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        widths = self.vision_encoder.widths
        self.projector = Projector(widths[-1], width)
        decoders = [d for d in (config.box_decoder_config, config.mask_decoder_config) if d]
        cell_width = decoders[0].width if decoders else widths[CELL_LEVEL]
        self.pixel_decoder = PixelDecoder(
            widths,
            cell_level=CELL_LEVEL,
            pixel_level=PIXEL_LEVEL,
            cell_width=cell_width,
            pixel_width=config.pixel_width,
        )
        self.region_encoder = RegionEncoder(cell_width, width, config.region_tokens)
        box, mask = config.box_decoder_config, config.mask_decoder_config
        self.box_decoder = None if box is None else BoxDecoder(box, width)
        self.mask_decoder = None if mask is None else MaskDecoder(mask, width, config.pixel_width)
        self.concept_head = (
            ConceptHead(cell_width, len(config.concepts)) if config.concepts else None
        )
        self.post_init()  # type: ignore[no-untyped-call]  # transformers leaves it untyped

    def _init_weights(self, module: nn.Module) -> None:
        """Keep each part's own initialisation: parts differ too much for one rule."""

    def see(self, pixel_values: Float[Tensor, "b 3 h w"]) -> SeenImages:
        """Steps 1 and 2: encode canvases once, however many questions follow."""
        features = self.vision_encoder(pixel_values)
        return SeenImages(self.projector(features.tokens), self.pixel_decoder(features.pyramid))

    def embed(
        self,
        input_ids: Int[Tensor, "b t"],
        seen: SeenImages,
        regions: Float[Tensor, "r rh rw"],
        region_rows: Int[Tensor, " r"],
    ) -> Float[Tensor, "b t d"]:
        """Step 3: token embeddings with image and region tokens in their places.

        Raises:
            ModelError: Placeholders and features differ in number.
        """
        embeddings = self.language_model.get_input_embeddings()(input_ids)
        embeddings = self._splice(embeddings, input_ids, "<image>", seen.tokens.flatten(0, 1))
        if len(regions):
            tokens = self.region_encoder(seen.maps.cells, regions, region_rows).flatten(0, 1)
            return self._splice(embeddings, input_ids, "<region>", tokens)
        return embeddings

    def _splice(
        self,
        embeddings: Float[Tensor, "b t d"],
        input_ids: Int[Tensor, "b t"],
        marker: str,
        tokens: Float[Tensor, "n d"],
    ) -> Float[Tensor, "b t d"]:
        places = input_ids == self.config.marker_ids[marker]
        if int(places.sum()) != len(tokens):
            raise ModelError(
                f"{int(places.sum())} {marker} tokens in the text, {len(tokens)} given"
            )
        return embeddings.masked_scatter(places[..., None], tokens.to(embeddings.dtype))

    def read(
        self,
        embeddings: Float[Tensor, "b t d"],
        positions: Int[Tensor, "b t"],
        attention: Bool[Tensor, "b ..."],
        *,
        cache: Cache | None = None,
    ) -> Float[Tensor, "b t d"]:
        """Step 4: last hidden states of the language model."""
        output = self.language_model.get_decoder()(
            inputs_embeds=embeddings,
            position_ids=positions,
            attention_mask=attention,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        return output.last_hidden_state

    def decode(self, references: LatentReferences, seen: SeenImages) -> DecodedUnits:
        """Step 5: every decoder runs on every reference; the caller keeps what was asked for."""
        boxes = None if self.box_decoder is None else self.box_decoder(references, seen.maps.cells)
        masks = None if self.mask_decoder is None else self.mask_decoder(references, seen.maps)
        return DecodedUnits(references, boxes, masks)

    def forward(
        self,
        pixel_values: Float[Tensor, "b 3 h w"],
        input_ids: Int[Tensor, "b t"],
        labels: Int[Tensor, "b t"],
        label_weights: Float[Tensor, "b t"],
        positions: Int[Tensor, "b t"],
        turns: Int[Tensor, "b t"],
        independent: Bool[Tensor, " b"],
        regions: Float[Tensor, "r rh rw"],
        region_rows: Int[Tensor, " r"],
        references: Any,
        concepts: Bool[Tensor, "b cells known"],
    ) -> PointingOutput:
        """All six steps on a training batch (fields of `deixis.processing.batch.Batch`)."""
        seen = self.see(pixel_values)
        weights = self.config.loss_weights
        parts: dict[str, Tensor] = {}
        measures: dict[str, Tensor] = {}
        if self.concept_head is not None:
            parts["concept"] = losses.concept_loss(self.concept_head(seen.maps.cells), concepts)
        if not bool((turns > 0).any()):
            # images without questions: nothing for the language model to say
            return PointingOutput(weighted_sum(parts, weights), parts, measures)
        embeddings = self.embed(input_ids, seen, regions, region_rows)
        hidden = self.read(embeddings, positions, training_attention(turns, independent))
        parts |= {
            "language": losses.language_loss(
                self.language_model.get_output_embeddings(), hidden, labels, label_weights
            )
        }
        # markers in a question are plain text, so a reference token is always labelled
        is_reference = (input_ids == self.config.marker_ids["<REF>"]) & (turns > 0)
        latent = route_references(hidden, is_reference, turns)
        units = self.decode(latent, seen)
        truth = Truth(
            references.boxes,
            references.has_box,
            references.masks.float(),
            references.has_mask,
            references.groups,
            references.weights,
        )
        if len(latent) != len(truth.boxes):
            raise ModelError(f"{len(latent)} <REF> tokens, truth for {len(truth.boxes)}")
        unit_parts, unit_measures = unit_losses(units, truth, weights)
        parts |= unit_parts
        measures |= unit_measures
        return PointingOutput(weighted_sum(parts, weights), parts, measures)


def weighted_sum(
    parts: dict[str, Float[Tensor, ""]], weights: dict[str, float]
) -> Float[Tensor, ""]:
    """Add losses by their weights."""
    return torch.stack([weights[name] * part for name, part in parts.items()]).sum()


def training_attention(
    turns: Int[Tensor, "b t"], independent: Bool[Tensor, " b"]
) -> Bool[Tensor, "b 1 t t"]:
    """Who may see whom: the past, without padding, without the other turns of independent rows."""
    length = turns.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=turns.device).tril()
    asking, asked = turns[:, :, None], turns[:, None, :]
    related = (asked == 0) | (asked == asking) | ~independent[:, None, None]
    seen = causal & related & (asked >= 0)
    alone = torch.eye(length, dtype=torch.bool, device=turns.device)
    return (seen | alone)[:, None]


def unit_losses(
    units: DecodedUnits, truth: Truth, weights: dict[str, float]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Step 6: match references to truth inside their groups and score every decoder.

    Decoders without truth in the batch get a zero that is still tied to their outputs, so that
    distributed ranks stay in step; finite inputs give it a zero gradient.
    """
    filled = units.references.filled
    count = len(truth.boxes)
    pixels = None if units.masks is None else units.masks.logits[filled].flatten(1)
    order = match_truth(units, truth, weights, pixels)
    has_box, has_mask = truth.has_box[order], truth.has_mask[order]
    boxes, masks = truth.boxes[order], truth.masks[order].flatten(1)
    parts: dict[str, Tensor] = {}
    measures: dict[str, Tensor] = {}
    if units.boxes is not None:
        coverage = cell_coverage(units.boxes.anchors, truth, order) if count else None
        scale = truth.weights * has_box
        steps = []
        for step in units.boxes.steps:
            distance, overlap = losses.box_loss(step[filled], boxes)
            steps.append(weighted_mean(weights["l1"] * distance + weights["giou"] * overlap, scale))
        loss = torch.stack(steps).mean()
        iou = losses.paired_iou(
            losses.to_corners(units.boxes.boxes[filled]), losses.to_corners(boxes)
        )[0].detach()
        loss = loss + weights["quality"] * quality_loss(units.boxes.quality[filled], iou, scale)
        anchor = anchor_loss(units.boxes.anchors, filled, coverage, scale)
        parts["box"] = loss + units.boxes.anchor_weight * anchor
        measures |= {"box_iou": weighted_mean(iou, scale), "box_anchor": anchor.detach()}
        measures["box_at_half"] = weighted_mean((iou >= 0.5).float(), scale)
    if units.masks is not None and pixels is not None:
        coverage = cell_coverage(units.masks.anchors, truth, order) if count else None
        scale = truth.weights * has_mask
        focal, dice = losses.focal_loss(pixels, masks), losses.dice_loss(pixels, masks)
        loss = weighted_mean(weights["focal"] * focal + weights["dice"] * dice, scale)
        hard = (pixels.detach() > 0).float()
        overlap = (hard * masks).sum(-1)
        iou = overlap / (hard.sum(-1) + masks.sum(-1) - overlap).clamp(min=1)
        loss = loss + weights["quality"] * quality_loss(units.masks.quality[filled], iou, scale)
        anchor = anchor_loss(units.masks.anchors, filled, coverage, scale)
        parts["mask"] = loss + units.masks.anchor_weight * anchor
        measures |= {"mask_iou": weighted_mean(iou, scale)}
    return parts, measures


def weighted_mean(values: Float[Tensor, " n"], scale: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean with weights; zero, still tied to ``values``, where all weights are zero."""
    return (values * scale).sum() / scale.sum().clamp(min=1e-6)


def quality_loss(
    logits: Float[Tensor, " n"], iou: Float[Tensor, " n"], scale: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of the quality estimate towards the IoU that was reached."""
    loss = nn.functional.binary_cross_entropy_with_logits(logits, iou.clamp(0, 1), reduction="none")
    return weighted_mean(loss, scale)


def cell_coverage(
    anchors: tuple[Anchors, ...], truth: Truth, order: Int[Tensor, " n"]
) -> Float[Tensor, "n cells"] | None:
    """Where anchors should attend: the share of each cell that the mask, or else the box, covers."""
    if not anchors:
        return None
    grid = round(anchors[0].logits.shape[-1] ** 0.5)
    from_mask = nn.functional.adaptive_avg_pool2d(truth.masks[:, None], grid).flatten(1)
    edges = torch.arange(grid + 1, device=truth.boxes.device) / grid
    low, high = losses.to_corners(truth.boxes).split(2, dim=1)
    share = (
        torch.minimum(edges[1:], high[..., None]) - torch.maximum(edges[:-1], low[..., None])
    ).clamp(min=0)
    from_box = (share[:, 1, :, None] * share[:, 0, None, :]).flatten(1)
    coverage = torch.where(truth.has_mask[:, None], from_mask, from_box)[order]
    return coverage / coverage.sum(1, keepdim=True).clamp(min=1e-9)


def anchor_loss(
    anchors: tuple[Anchors, ...],
    filled: Bool[Tensor, "b q"],
    coverage: Float[Tensor, "n cells"] | None,
    scale: Float[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Cross-entropy of every anchor's attention; zero where the decoder has none."""
    if not anchors or coverage is None:
        return scale.sum() * 0
    each = [losses.soft_attention_loss(anchor.logits[filled], coverage) for anchor in anchors]
    return weighted_mean(torch.stack(each).mean(0), scale)


@torch.no_grad()
def match_truth(
    units: DecodedUnits,
    truth: Truth,
    weights: dict[str, float],
    pixels: Float[Tensor, "n p"] | None,
) -> Int[Tensor, " n"]:
    """The truth that each reference takes: a permutation inside each group."""
    order = torch.arange(len(truth.boxes), device=truth.boxes.device)
    sizes = (truth.groups >= 0).sum(1)
    several = truth.groups[sizes > 1]
    if not len(several):
        return order
    members = several.clamp(min=0)
    filled = units.references.filled
    cost = torch.zeros(len(several), several.shape[1], several.shape[1], device=order.device)
    if units.boxes is not None:
        predicted = units.boxes.boxes[filled][members][:, :, None]
        target = truth.boxes[members][:, None]
        _, giou = losses.paired_iou(losses.to_corners(predicted), losses.to_corners(target))
        pair = weights["l1"] * (predicted - target).abs().sum(-1) + weights["giou"] * (1 - giou)
        cost += pair * truth.has_box[members][:, None]
    if pixels is not None:
        probability, masks = pixels[members].sigmoid(), truth.masks.flatten(1)[members]
        shared = 2 * probability @ masks.transpose(1, 2) + 1
        whole = probability.sum(-1)[:, :, None] + masks.sum(-1)[:, None] + 1
        cost += weights["dice"] * (1 - shared / whole) * truth.has_mask[members][:, None]
    chosen = match_groups(cost, (several >= 0).sum(1).cpu().numpy())
    for group, match in zip(several, chosen, strict=True):
        kept = group[: len(match)]
        order[kept] = kept[torch.from_numpy(match).to(kept.device)]
    return order
