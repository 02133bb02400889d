"""The composite model: language that points. The file to read first.

A forward pass, in order:

1. the vision encoder turns canvases into tokens and a feature pyramid;
2. the pixel decoder merges the pyramid into cells (to attend to) and pixels (to cut masks from);
3. image tokens pass the projector, region tokens the region encoder, and both take the place of
   their placeholder tokens among the text;
4. the language model reads the sequence; the hidden state at each `<REF>` is gathered;
5. the unit decoders turn each gathered state into a box and a mask;
6. with truth given, references of a group take their truth by Hungarian matching, and the losses
   of language, boxes, masks, proposals and concepts are added (see `objectives`).
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
    MaskDecoder,
    PixelDecoder,
    PixelFeatures,
    ProposalHead,
    Proposals,
)
from deixis.models.objectives import (
    DecodedUnits,
    Things,
    Truth,
    proposal_losses,
    unit_losses,
    weighted_sum,
)
from deixis.models.positions import sine_positions
from deixis.models.projector import CellProjector, ObjectProjector, Projector
from deixis.models.references import LatentReferences, route_references
from deixis.models.regions import MaskGuidedAggregation
from deixis.models.vision import SmallVisionEncoder

CELL_LEVEL, PIXEL_LEVEL = 2, 0


@dataclass(frozen=True, slots=True)
class SeenImages:
    """Images after the vision encoder: tokens for the language model, maps for the decoders."""

    tokens: Float[Tensor, "b n d"]
    maps: PixelFeatures
    proposals: Proposals | None


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
        # what is large would drown the other
        normed = nn.functional.layer_norm(cells.permute(0, 2, 3, 1), cells.shape[1:2])
        placed = normed.permute(0, 3, 1, 2) + positions.T.unflatten(1, cells.shape[-2:])
        return self.projector(self.aggregate(placed, masks, rows))


class ConceptHead(nn.Module):
    """Tell from a cell alone which words hold there."""

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
    ``language_model``, ``pixel_decoder``, ``proposal_head``, ``box_decoder``, ``mask_decoder``, ``concept_head``.
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
        decoders = [d for d in (config.box_decoder_config, config.mask_decoder_config) if d]
        cell_width = decoders[0].width if decoders else widths[CELL_LEVEL]
        self.projector = build_projector(config, widths[-1], cell_width, width)
        self.pixel_decoder = PixelDecoder(
            widths,
            cell_level=CELL_LEVEL,
            pixel_level=PIXEL_LEVEL,
            cell_width=cell_width,
            pixel_width=config.pixel_width,
        )
        self.proposal_head = (
            ProposalHead(cell_width, config.pixel_width) if config.proposals else None
        )
        self.region_encoder = RegionEncoder(cell_width, width, config.region_tokens)
        box, mask = config.box_decoder_config, config.mask_decoder_config
        self.box_decoder = None if box is None else BoxDecoder(box, width)
        self.mask_decoder = None if mask is None else MaskDecoder(mask, width, config.pixel_width)
        if self.proposal_head is not None:
            for decoder in (self.box_decoder, self.mask_decoder):
                if decoder is not None and decoder.config.anchored:
                    decoder.start_from_proposals()
        self.concept_head = (
            ConceptHead(cell_width, len(config.concepts)) if config.concepts else None
        )
        self.post_init()  # type: ignore[no-untyped-call]  # transformers leaves it untyped

    def _init_weights(self, module: nn.Module) -> None:
        """Keep each part's own initialisation: parts differ too much for one rule."""

    def see(self, pixel_values: Float[Tensor, "b 3 h w"]) -> SeenImages:
        """Steps 1 and 2: encode canvases once, however many questions follow."""
        features = self.vision_encoder(pixel_values)
        maps = self.pixel_decoder(features.pyramid)
        proposals = None if self.proposal_head is None else self.proposal_head(maps.cells)
        match self.projector:
            case ObjectProjector():
                tokens = self.projector(maps.cells, proposals)
            case CellProjector():
                tokens = self.projector(maps.cells)
            case _:
                tokens = self.projector(features.tokens)
        return SeenImages(tokens, maps, proposals)

    def recognise(self, seen: SeenImages) -> Float[Tensor, "b cells known"] | None:
        """Give the chance, for each cell, that each of the config's concepts holds there."""
        if self.concept_head is None:
            return None
        return self.concept_head(seen.maps.cells).float().sigmoid()

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
        boxes = masks = None
        if self.box_decoder is not None:
            boxes = self.box_decoder(references, seen.maps.cells, seen.proposals)
        if self.mask_decoder is not None:
            masks = self.mask_decoder(references, seen.maps, seen.proposals)
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
        things: Any,
    ) -> PointingOutput:
        """All six steps on a training batch (fields of `deixis.processing.batch.Batch`)."""
        seen = self.see(pixel_values)
        weights = self.config.loss_weights
        parts: dict[str, Tensor] = {}
        measures: dict[str, Tensor] = {}
        shown = Things(things.cells, things.boxes, things.masks.float(), things.concepts)
        if self.concept_head is not None:
            logits = self.concept_head(seen.maps.cells)
            parts["concept"] = losses.concept_loss(logits, shown.cells, shown.concepts)
        if seen.proposals is not None:
            parts["proposals"], found = proposal_losses(
                seen.proposals, seen.maps.pixels, shown, weights
            )
            measures |= found
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


def build_projector(
    config: PointingVLMConfig, visual_width: int, cell_width: int, width: int
) -> Projector | CellProjector | ObjectProjector:
    """What makes image tokens of ``width``.

    Raises:
        ModelError: Tokens are made from objects, and nothing proposes any.
    """
    if config.tokens_from == "objects":
        if not config.proposals:
            raise ModelError("tokens_from objects: expected a model with proposals")
        return ObjectProjector(
            cell_width, width, cell_grid=config.cell_grid, objects=config.objects
        )
    if config.tokens_from == "cells":
        return CellProjector(cell_width, width)
    return Projector(visual_width, width)


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
