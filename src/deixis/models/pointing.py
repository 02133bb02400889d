"""The composite model: language that points. The file to read first.

A forward pass, in order:

1. the vision encoder turns canvases into tokens and a feature pyramid;
2. the pixel decoder merges the pyramid into cells (to attend to) and pixels (to cut masks from);
3. image tokens pass the projector, region tokens the region encoder, and both take the place of
   their placeholder tokens among the text;
4. the language model reads the sequence; the hidden state at each reference (`<REF>`) is gathered,
   or the one before it (see `Offset`);
5. each unit decoder turns the states of the references that ask for its units into these;
6. with truth given, references of a group take their truth by Hungarian matching, and the losses
   of language, units, proposals and concepts are added (see `objectives`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from deixis.batch import Batch, Regions, RegionTruth, UnitTruth
from deixis.batch.references import Truth
from deixis.errors import ModelError
from deixis.models.config import PointingVLMConfig
from deixis.models.decoders import PixelDecoder, PixelFeatures, ProposalHead, Proposals
from deixis.models.decoders.interface import AnyDecoder, EncodedImages, Features, SeesImages
from deixis.models.decoders.maskformer_pixel import MaskFormerPixelDecoder
from deixis.models.decoders.proposals import proposal_losses
from deixis.models.decoders.registry import NamedDecoder, Surroundings
from deixis.models.headed import build_language_model, cache_argument
from deixis.models.language import check_language
from deixis.models.losses.concepts import concept_loss
from deixis.models.losses.language import language_loss
from deixis.models.losses.scoring import tied_zero
from deixis.models.objectives import DecodedUnits, UnitsOfType, unit_losses, weighted_sum
from deixis.models.projector import CellProjector, ObjectProjector, Projector
from deixis.models.references import LatentReferences, pick_references, route_references
from deixis.models.regions import (
    RegionAlignment,
    RegionConnector,
    RegionContext,
    build_region_encoder,
)
from deixis.models.tuning import restore_tuning
from deixis.models.vision.features import VisionFeatures
from deixis.models.vision.kinds import build_vision_encoder
from deixis.models.vision.merging import MergingVisionConfig


@dataclass(frozen=True, slots=True)
class SeenImages:
    """Images after the vision encoder: tokens for the language model, maps for the decoders.

    ``tokens`` are those of all rows, one row after the other, ``counts`` of them each; ``visual``
    are the vision encoder's own. Of a video, maps and ``visual`` show the frame in the middle.
    ``framed`` are the images as a segmenter has encoded them, where the model has one; ``deep`` is
    what the language model adds to the tokens after its first layers, where it does. ``pyramid``
    are the vision encoder's maps as they are, from fine to coarse.
    """

    tokens: Float[Tensor, "n d"]
    counts: tuple[int, ...]
    visual: Float[Tensor, "b p v"]
    maps: PixelFeatures
    proposals: Proposals | None
    framed: EncodedImages | None = None
    deep: tuple[Float[Tensor, "b seen width"], ...] = ()
    pyramid: tuple[Float[Tensor, "b _c _h _w"], ...] = ()


@dataclass(frozen=True, slots=True)
class PointingOutput:
    """Losses by name, weighted sum first, and what was measured on the way."""

    loss: Float[Tensor, ""]
    parts: dict[str, Float[Tensor, ""]]
    measures: dict[str, Float[Tensor, ""]]


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
    ``language_model``, ``pixel_decoder``, ``proposal_head``, ``concept_head``, and for each unit type
    its decoder, such as ``box_decoder``. ``units`` are these unit types.
    """

    config_class = PointingVLMConfig
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(
        self,
        config: PointingVLMConfig,
        *,
        vision_encoder: nn.Module | None = None,
        language_model: PreTrainedModel | None = None,
        projector: nn.Module | None = None,
    ) -> None:
        """Build every part with random weights, but those that are given; they are not copied."""
        super().__init__(config)
        if config.text_config is None:
            raise ModelError("a pointing model needs a text_config")
        self.image_frame = config.image_frame
        width = config.text_config.hidden_size
        if vision_encoder is None:
            vision_encoder = build_vision_encoder(config.vision_config)
        if language_model is None:
            language_model = build_language_model(config.text_config)
        config.text_config = language_model.config
        check_language(language_model)
        self.vision_encoder, self.language_model = vision_encoder, language_model
        self.image_positions, self.deep_layers = config.image_positions, config.deep_layers
        sizes = config.vision_sizes
        cell_width = config.cell_width or sizes.widths[config.cell_level]
        if projector is None:
            projector = build_projector(config, sizes.token_width, cell_width, width)
        self.projector = projector
        self.pixel_decoder = build_pixel_decoder(config, cell_width)
        self.proposal_head = (
            ProposalHead(cell_width, config.pixel_width) if config.proposals else None
        )
        self.region_encoder = build_region_encoder(
            config.regions_config,
            cell_width=cell_width,
            visual_width=sizes.token_width,
            language_width=width,
        )
        around = Surroundings(
            width,
            config.pixel_width,
            sizes.widths,
            proposals=config.proposals,
            loss_weights=config.loss_weights,
        )
        self.units: tuple[str, ...] = ()
        named = config.unit_decoders
        # in this order: weights are drawn in it, and optimizers number parameters by it
        self._add_decoders([one for one in named if one.name in {"box", "mask"}], around)
        self.concept_head = (
            ConceptHead(cell_width, len(config.concepts)) if config.concepts else None
        )
        aligned = config.alignment_config
        self.alignment: RegionAlignment | None = None
        if aligned is not None:
            self.alignment = RegionAlignment(self.connector.config.width, aligned)
        self._add_decoders([one for one in named if one.name not in {"box", "mask"}], around)
        self.always_frozen = frozenset(
            name for name, parameter in self.named_parameters() if not parameter.requires_grad
        )
        restore_tuning(self, config.tuning)
        self.post_init()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self.all_tied_weights_keys.update(tied_inside(self))

    def _init_weights(self, module: nn.Module) -> None:
        """Keep each part's own initialisation: parts differ too much for one rule."""

    def _add_decoders(self, named: Sequence[NamedDecoder[Any]], around: Surroundings) -> None:
        """Make decoders parts, by the unit types that they decode."""
        for one in named:
            decoder = one.build(around)
            if not isinstance(decoder, nn.Module):
                raise ModelError(f"decoder {one.name!r}: expected a torch.nn.Module")
            setattr(self, one.part, decoder)
            self.units = (*self.units, decoder.unit)

    @property
    def decoders(self) -> dict[str, AnyDecoder]:
        """The unit decoders by unit type."""
        return {unit: getattr(self, f"{unit}_decoder") for unit in self.units}

    @property
    def anchored_unit(self) -> str | None:
        """The unit type of the first anchored decoder; None where none is."""
        return next((unit for unit, each in self.decoders.items() if each.anchored), None)

    def capacity(self, unit: str) -> int | None:
        """How many references of a turn the decoder of a unit type takes; None for any number."""
        decoder = self.decoders.get(unit)
        return None if decoder is None else decoder.capacity

    @property
    def connector(self) -> RegionConnector:
        """The region encoder that can be aligned by itself.

        Raises:
            ModelError: There is none that reads descriptions, or there are several.
        """
        encoders = self.region_encoder.modules()
        found = [one for one in encoders if isinstance(one, RegionConnector) and one.text]
        if len(found) != 1:
            raise ModelError(
                f"alignment: expected one connector with a text_encoder, got {len(found)}"
            )
        return found[0]

    @property
    def aligner(self) -> RegionAlignment:
        """The heads and losses that align the connector.

        Raises:
            ModelError: The model has none.
        """
        if self.alignment is None:
            raise ModelError("the model is not made to be aligned: expected alignment, got None")
        return self.alignment

    def align(
        self,
        pixel_values: Float[Tensor, "pictures 3 h w"],
        regions: Regions,
        frames: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "r k d"]:
        """What the connector finds for each region, before its projector."""
        visual, pyramid = _shown(self.vision_encoder(pixel_values), frames)
        context = RegionContext(self.pixel_decoder(pyramid).cells, visual)
        return self.connector.features(context, regions)

    def see(
        self,
        pixel_values: Float[Tensor, "pictures 3 h w"],
        framed_pixels: Float[Tensor, "b 3 side side"] | None = None,
        frames: Int[Tensor, " b"] | None = None,
    ) -> SeenImages:
        """Steps 1 and 2: encode canvases once, however many questions follow.

        ``frames`` says how many pictures are the frames of each row's video, 0 for an image; None
        where there are images alone.

        Raises:
            ModelError: The model has a segmenter, and images in its frame are not given; or it
                takes no videos, and there is one.
        """
        features = self.vision_encoder(pixel_values)
        visual, pyramid = _shown(features, frames)
        maps = self.pixel_decoder(pyramid)
        proposals = None if self.proposal_head is None else self.proposal_head(maps.cells)
        if frames is not None:
            rows = self._pooled(features.tokens, frames)
            tokens = self.projector(torch.cat(rows))
            counts = tuple(len(row) for row in rows)
        else:
            match self.projector:
                case ObjectProjector():
                    each = self.projector(maps.cells, proposals)
                case CellProjector():
                    each = self.projector(maps.cells)
                case _:
                    each = self.projector(visual)
            tokens, counts = each.flatten(0, 1), (each.shape[1],) * len(each)
        framed = self._framed(framed_pixels)
        return SeenImages(tokens, counts, visual, maps, proposals, framed, features.deep, pyramid)

    def _pooled(
        self, tokens: Float[Tensor, "pictures p v"], frames: Int[Tensor, " b"]
    ) -> list[Float[Tensor, "_n v"]]:
        """Tokens of each image and pooled tokens of each video."""
        pooling = self.config.video_pooling
        if pooling is None:
            raise ModelError("the model takes no videos; expected images alone")
        counts = frames.tolist()
        parts = tokens.split([max(count, 1) for count in counts])
        return [
            part.flatten(0, 1) if not count else pooling.pool(part[None])[0].flatten(0, 1)
            for part, count in zip(parts, counts, strict=True)
        ]

    def _framed(self, pixels: Float[Tensor, "b 3 side side"] | None) -> EncodedImages | None:
        if self.image_frame is None:
            return None
        if pixels is None:
            raise ModelError("the model has a segmenter: expected images in its frame, got none")
        (segmenter,) = (each for each in self.decoders.values() if isinstance(each, SeesImages))
        return segmenter.see(pixels)

    def recognise(self, seen: SeenImages) -> Float[Tensor, "b cells known"] | None:
        """Give the chance, for each cell, that each of the config's concepts holds there."""
        if self.concept_head is None:
            return None
        return self.concept_head(seen.maps.cells).float().sigmoid()

    def embed(
        self,
        input_ids: Int[Tensor, "b t"],
        seen: SeenImages,
        regions: Regions,
    ) -> Float[Tensor, "b t d"]:
        """Step 3: token embeddings with image and region tokens in their places.

        Raises:
            ModelError: Placeholders and features differ in number.
        """
        embeddings = self.language_model.get_input_embeddings()(input_ids)
        image, region = (
            input_ids == self.config.marker_ids[marker] for marker in ("<image>", "<region>")
        )
        # the one read of values here: of an accelerator's, once a prompt
        *images, regions_told = torch.cat([image.sum(1), region.sum()[None]]).tolist()
        # a row without a placeholder is about no image
        each = zip(seen.tokens.split(list(seen.counts)), images, strict=True)
        shown = [_checked(tokens, told, "<image>") for tokens, told in each if told]
        if shown:
            embeddings = _splice(embeddings, image, torch.cat(shown))
        if not len(regions):
            _checked(embeddings[:0], regions_told, "<region>")
            return embeddings
        shared = self.projector if isinstance(self.projector, Projector) else None
        context = RegionContext(seen.maps.cells, seen.visual, shared)
        found = self.region_encoder.tokens(context, regions)
        return _splice(embeddings, region, _checked(found.vectors, regions_told, "<region>"))

    def read(
        self,
        embeddings: Float[Tensor, "b t d"],
        positions: Int[Tensor, "*rows b t"],
        attention: Bool[Tensor, "b ..."] | None,
        *,
        cache: Cache | None = None,
        seen: SeenImages | None = None,
        image: Bool[Tensor, "b t"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        """Step 4: last hidden states of the language model.

        A language model that sees image tokens on a grid takes positions as `place` gives them; one
        that adds features after its first layers takes what was ``seen``, and which of the tokens
        are of an ``image``. What goes on from a cache has none unless it says so. ``attention`` may
        be None with a cache, where no row is padded.

        Raises:
            ModelError: One of these is not given.
        """
        begun = cache is not None and cache.get_seq_length() > 0
        decoder = self.language_model.get_decoder()
        output = decoder(
            inputs_embeds=embeddings,
            attention_mask=attention,
            use_cache=cache is not None,
            position_ids=positions,
            **{cache_argument(decoder): cache},
            **self._deep_features(positions, seen, image, begun=begun),
        )
        return output.last_hidden_state

    def place(
        self, positions: Int[Tensor, "b t"], image: Bool[Tensor, "b t"]
    ) -> Int[Tensor, "*rows b t"]:
        """Positions in sequences as the language model wants them: as they are, or in three rows."""
        if self.image_positions is None:
            return positions
        return self.image_positions.spread(positions, image)

    def _deep_features(
        self,
        positions: Int[Tensor, "*rows b t"],
        seen: SeenImages | None,
        image: Bool[Tensor, "b t"] | None,
        *,
        begun: bool,
    ) -> dict[str, Any]:
        """What the language model adds to image tokens after its first layers, where it does."""
        if self.image_positions is not None and positions.dim() == 2:
            raise ModelError("image tokens on a grid: expected positions as `place` gives them")
        if not self.deep_layers or (begun and image is None):
            return {}
        if seen is None or image is None:
            raise ModelError("features after the first layers: expected what was seen, and where")
        shown = image.any(1)
        features = [each[shown].flatten(0, 1) for each in seen.deep]
        return {"visual_pos_masks": image, "deepstack_visual_embeds": features}

    def decode(
        self,
        references: LatentReferences,
        seen: SeenImages,
        *,
        wanted: Mapping[str, Bool[Tensor, "b q"]] | None = None,
    ) -> DecodedUnits:
        """Step 5: units of every reference.

        With ``wanted``, each decoder is given the references that it names by unit type, and none
        where it does not name the type; without it, every decoder is given all of them.

        Raises:
            ModelError: A turn asks a decoder for more units than it has queries.
        """
        features = Features(seen.maps, seen.proposals, seen.framed, seen.pyramid)
        units = {}
        for unit, decoder in self.decoders.items():
            asked = references.filled
            if wanted is not None:
                asked = asked & wanted.get(unit, torch.zeros_like(asked))
            some, places = pick_references(references, asked)
            units[unit] = UnitsOfType(decoder, decoder(some, features), some.filled, places)
        return DecodedUnits(references, units)

    def read_truth(self, batch: Batch) -> dict[str, UnitTruth[Truth]]:
        """What each decoder learns from a batch, by unit type; without those that learn nothing.

        Raises:
            ModelError: A decoder does not read the truth of its units, which the batch has.
        """
        read = {unit: decoder.read_truth(batch) for unit, decoder in self.decoders.items()}
        for unit in batch.references.truth:
            if unit in read and read[unit] is None:
                raise ModelError(
                    f"{unit}_decoder: expected it to read the truth of units of type {unit}, got "
                    "None: it would not learn from this batch"
                )
        return {unit: truth for unit, truth in read.items() if truth is not None}

    def wanted_by_truth(
        self, references: LatentReferences, truths: Mapping[str, UnitTruth[Truth]]
    ) -> dict[str, Bool[Tensor, "b q"]]:
        """Which references learn from which decoder, by unit type: those of its truth."""
        wanted = {}
        for unit, truth in truths.items():
            named = torch.zeros(len(references), dtype=torch.bool, device=truth.index.device)
            named[truth.index] = True
            blank = torch.zeros_like(references.filled)
            wanted[unit] = blank.masked_scatter(references.filled, named)
        return wanted

    def forward(self, batch: Batch, *, aligning: bool = False) -> PointingOutput:
        """All six steps on a training batch.

        When ``aligning``, only what the region encoder finds is learned, from what is known of the
        regions (TAMP's stage 1).

        Raises:
            ModelError: Tokens and truth of the references differ in number, or there is nothing to
                align from.
        """
        if aligning:
            return self._aligned(batch)
        seen = self.see(batch.pixel_values, batch.framed_pixels, batch.frames)
        weights, instances = self.config.loss_weights, batch.instances
        parts: dict[str, Tensor] = {}
        measures: dict[str, Tensor] = {}
        if self.concept_head is not None:
            logits = self.concept_head(seen.maps.cells)
            parts["concept"] = concept_loss(logits, instances.cells, instances.concepts)
        if seen.proposals is not None:
            parts["proposals"], found = proposal_losses(
                seen.proposals, seen.maps.pixels, instances, weights, batch.extents
            )
            measures |= found
        input_ids, turns = batch.input_ids, batch.turns
        if not bool((turns > 0).any()):
            # images without questions: nothing for the language model to say
            return PointingOutput(self._total(parts), parts, measures)
        embeddings = self.embed(input_ids, seen, batch.regions)
        attention = training_attention(turns, batch.independent)
        image = input_ids == self.config.marker_ids["<image>"]
        placed = self.place(batch.positions, image)
        hidden = self.read(embeddings, placed, attention, seen=seen, image=image)
        head = self.language_model.get_output_embeddings()
        parts["language"] = language_loss(head, hidden, batch.labels, batch.label_weights)
        # markers in a question are plain text, so a reference token is always labelled
        latents = torch.tensor(self.config.reference_ids, dtype=torch.long, device=input_ids.device)
        is_reference = torch.isin(input_ids, latents) & (turns > 0)
        latent = route_references(hidden, is_reference, turns, offset=self.config.offset)
        if len(latent) != len(batch.references):
            raise ModelError(f"{len(latent)} references, truth for {len(batch.references)}")
        truths = self.read_truth(batch)
        units = self.decode(latent, seen, wanted=self.wanted_by_truth(latent, truths))
        unit_parts, unit_measures = unit_losses(units, truths, batch.references.groups)
        parts |= unit_parts
        measures |= unit_measures
        return PointingOutput(self._total(parts), parts, measures)

    @staticmethod
    def region_truth(batch: Batch) -> RegionTruth:
        """What is known of a batch's regions, for aligning.

        Raises:
            ModelError: The batch was not made for that.
        """
        if batch.region_truth is None:
            raise ModelError("aligning: expected what is known of the regions, got None")
        return batch.region_truth

    def _aligned(self, batch: Batch) -> PointingOutput:
        alignment, truth = self.aligner, self.region_truth(batch)
        found = self.align(batch.pixel_values, batch.regions, batch.frames)
        texts = alignment.texts(self.connector, batch.regions, truth)
        losses = alignment.losses(found, texts, alignment.pairs(batch.regions, truth))
        parts = {"location": losses.location, "semantic": losses.semantic}
        return PointingOutput(self._total(parts), parts, {})

    def _total(self, parts: dict[str, Tensor]) -> Float[Tensor, ""]:
        # what took no part in this batch still does in the backward pass: ranks wait for it
        # rows without questions leave nothing to learn where no head learns from images
        total = tied_zero(self)
        return total + weighted_sum(parts, self.config.loss_weights) if parts else total


def _checked(tokens: Tensor, told: int, marker: str) -> Tensor:
    """Tokens, of which the text has as many places."""
    if told != len(tokens):
        raise ModelError(f"{told} {marker} tokens in the text, {len(tokens)} given")
    return tokens


def _splice(
    embeddings: Float[Tensor, "b t d"], places: Bool[Tensor, "b t"], tokens: Float[Tensor, "n d"]
) -> Float[Tensor, "b t d"]:
    return embeddings.masked_scatter(places[..., None], tokens.to(embeddings.dtype))


def tied_inside(model: nn.Module) -> dict[str, str]:
    """Weights that models of transformers share inside a part, by their full names.

    Such a model that is a direct child is known to transformers already.
    """
    return {
        f"{name}.{key}": f"{name}.{source}"
        for name, module in model.named_modules()
        if name and isinstance(module, PreTrainedModel)
        for key, source in module.all_tied_weights_keys.items()
    }


def middle_pictures(frames: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Which picture of a batch shows each row: its image, or the frame in its video's middle."""
    counts = frames.clamp(min=1)
    return counts.cumsum(0) - counts + (counts - 1) // 2


def _shown(
    features: VisionFeatures, frames: Int[Tensor, " b"] | None
) -> tuple[Float[Tensor, "b p v"], tuple[Tensor, ...]]:
    """Tokens and pyramid of the picture that shows each row."""
    if frames is None:
        return features.tokens, tuple(features.pyramid)
    shown = middle_pictures(frames)
    return features.tokens[shown], tuple(level[shown] for level in features.pyramid)


def build_pixel_decoder(
    config: PointingVLMConfig, cell_width: int
) -> PixelDecoder | MaskFormerPixelDecoder:
    """What makes one map of the vision encoder's pyramid; ours where the configuration has none."""
    sizes = config.vision_sizes
    if config.pixel_decoder is None:
        return PixelDecoder(
            sizes.widths,
            cell_level=sizes.cell_level,
            pixel_level=sizes.pixel_level,
            cell_width=cell_width,
            pixel_width=config.pixel_width,
        )
    fields = {name: value for name, value in config.pixel_decoder.items() if name != "cells"}
    return MaskFormerPixelDecoder(
        sizes.widths,
        cell_level=config.cell_level,
        pixel_level=sizes.pixel_level,
        cell_width=cell_width,
        pixel_width=config.pixel_width,
        **fields,
    )


def build_projector(
    config: PointingVLMConfig, visual_width: int, cell_width: int, width: int
) -> Projector | CellProjector | ObjectProjector | nn.Identity:
    """What makes image tokens of ``width``.

    Raises:
        ModelError: Tokens are made from objects, and nothing proposes any; or the configuration
            describes a projector that the model does not have.
    """
    merging = isinstance(config.vision_config, MergingVisionConfig)
    if config.projector and (merging or config.tokens_from != "encoder"):
        raise ModelError(f"projector {config.projector}: image tokens pass none of that shape")
    if config.projector.keys() - {"layers", "bias", "activation"}:
        raise ModelError(f"projector {config.projector}: expected layers, bias and activation")
    if config.tokens_from == "objects":
        if not config.proposals:
            raise ModelError("tokens_from objects: expected a model with proposals")
        return ObjectProjector(
            cell_width, width, cell_grid=config.cell_grid, objects=config.objects
        )
    if config.tokens_from == "cells":
        return CellProjector(cell_width, width)
    if merging:
        return nn.Identity()
    return Projector(visual_width, width, **config.projector)


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
