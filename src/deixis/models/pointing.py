"""The composite model. Read this file first.

A forward pass, in order:

1. the vision encoder turns canvases into tokens and a feature pyramid;
2. the pixel decoder merges the pyramid into cells, which references attend to, and pixels, from
   which masks are computed;
3. the projector makes image tokens and the region encoder region tokens; both replace their
   placeholder tokens in the text;
4. the language model reads the sequence; the hidden state at each reference (`<REF>`), or the one
   before it (see `Offset`), is gathered;
5. each unit decoder turns the states of the references that ask for its unit type into units;
6. in training, Hungarian matching assigns truth to the references of each group, and the losses of
   language, units, proposals and concepts are added (see `objectives`).
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
    """Encoded images: tokens for the language model, maps for the decoders.

    ``tokens`` are the image tokens of all rows, concatenated; ``counts`` is their number in each
    row. ``visual`` are the tokens of the vision encoder before the projector. For a video, maps and
    ``visual`` show the middle frame. ``framed`` are the images as the segmenter encodes them, if the
    model has one. ``deep`` are features that some language models add to the image tokens after
    their first layers. ``pyramid`` are the maps of the vision encoder, from fine to coarse.
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
    """The weighted sum of the losses, the losses by name, and measures by name."""

    loss: Float[Tensor, ""]
    parts: dict[str, Float[Tensor, ""]]
    measures: dict[str, Float[Tensor, ""]]


class ConceptHead(nn.Module):
    """Predict from each single cell which concepts hold there."""

    def __init__(self, cell_width: int, count: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(cell_width)
        self.words = nn.Linear(cell_width, count)
        nn.init.constant_(self.words.bias, -3.0)

    def forward(self, cells: Float[Tensor, "b c h w"]) -> Float[Tensor, "b cells known"]:
        """Return a logit for each cell and concept."""
        return self.words(self.norm(cells.flatten(2).transpose(1, 2)))


class PointingVLM(PreTrainedModel):
    """Vision encoder, projector, region encoder, language model and unit decoders, by name.

    The direct children are the parts: ``vision_encoder``, ``projector``, ``region_encoder``,
    ``language_model``, ``pixel_decoder``, ``proposal_head``, ``concept_head``, and a decoder for each
    unit type, such as ``box_decoder``. ``units`` lists the unit types.
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
        """Build every part with random weights, except the parts given, which are not copied."""
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
        # the order matters: it decides the random weights and the optimizer's parameter numbers
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
        """Do nothing: each part initialises itself."""

    def _add_decoders(self, named: Sequence[NamedDecoder[Any]], around: Surroundings) -> None:
        """Build decoders and register them as parts."""
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
        """The unit type of the first anchored decoder; None if no decoder is anchored."""
        return next((unit for unit, each in self.decoders.items() if each.anchored), None)

    def capacity(self, unit: str) -> int | None:
        """Return the most references of a turn for a unit type; None for any number."""
        decoder = self.decoders.get(unit)
        return None if decoder is None else decoder.capacity

    @property
    def connector(self) -> RegionConnector:
        """The region encoder with a text encoder, which can be aligned before the language model.

        Raises:
            ModelError: The model has no such region encoder, or several.
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
            ModelError: The configuration has no ``alignment``.
        """
        if self.alignment is None:
            raise ModelError(
                "the model cannot be aligned: expected alignment in its config, got None"
            )
        return self.alignment

    def align(
        self,
        pixel_values: Float[Tensor, "pictures 3 h w"],
        regions: Regions,
        frames: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "r k d"]:
        """Return the connector's features of each region, before its projector."""
        visual, pyramid = _shown(self.vision_encoder(pixel_values), frames)
        context = RegionContext(self.pixel_decoder(pyramid).cells, visual)
        return self.connector.features(context, regions)

    def see(
        self,
        pixel_values: Float[Tensor, "pictures 3 h w"],
        framed_pixels: Float[Tensor, "b 3 side side"] | None = None,
        frames: Int[Tensor, " b"] | None = None,
    ) -> SeenImages:
        """Steps 1 and 2: encode canvases once for all questions.

        ``frames`` is the number of video frames of each row, 0 for an image; None if all rows have
        images.

        Raises:
            ModelError: The model has a segmenter and ``framed_pixels`` is None, or ``frames`` is
                given and the model takes no videos.
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
        """Return the tokens of each image and the pooled tokens of each video."""
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
        """Return the probability that a concept holds in a cell; None without a concept head."""
        if self.concept_head is None:
            return None
        return self.concept_head(seen.maps.cells).float().sigmoid()

    def embed(
        self,
        input_ids: Int[Tensor, "b t"],
        seen: SeenImages,
        regions: Regions,
    ) -> Float[Tensor, "b t d"]:
        """Step 3: embed tokens and replace placeholders by image and region tokens.

        Raises:
            ModelError: Placeholders and features differ in number.
        """
        embeddings = self.language_model.get_input_embeddings()(input_ids)
        image, region = (
            input_ids == self.config.marker_ids[marker] for marker in ("<image>", "<region>")
        )
        # the only synchronisation with the accelerator, once per prompt
        *images, regions_told = torch.cat([image.sum(1), region.sum()[None]]).tolist()
        # a row without a placeholder has no image
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
        """Step 4: return the last hidden states of the language model.

        A language model with grid positions for image tokens takes ``positions`` from `place`. One
        that adds features after its first layers needs ``seen`` and ``image``, the mask of image
        tokens; without ``image``, tokens that continue a cache have no image tokens. ``attention``
        may be None with a cache if no row is padded.

        Raises:
            ModelError: The positions do not come from `place`, or ``seen`` or ``image`` is missing.
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
        """Return the positions that the language model takes: unchanged, or on a grid in three rows."""
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
        """Return the arguments for language models that add features after their first layers."""
        if self.image_positions is not None and positions.dim() == 2:
            raise ModelError("image tokens on a grid: expected positions from `place`")
        if not self.deep_layers or (begun and image is None):
            return {}
        if seen is None or image is None:
            raise ModelError("features after the first layers: expected seen and image, got None")
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
        """Step 5: decode references.

        ``wanted`` masks, by unit type, the references that each decoder decodes; a decoder whose
        type is missing decodes none. Without ``wanted``, every decoder decodes all references.

        Raises:
            ModelError: A turn has more references for a decoder than the decoder has queries.
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
        """Return the truth that each decoder learns from, by unit type, without empty ones.

        Raises:
            ModelError: The batch has truth of a decoder's unit type, and the decoder reads none.
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
        """Return, by unit type, the mask of the references that have truth of that type."""
        wanted = {}
        for unit, truth in truths.items():
            named = torch.zeros(len(references), dtype=torch.bool, device=truth.index.device)
            named[truth.index] = True
            blank = torch.zeros_like(references.filled)
            wanted[unit] = blank.masked_scatter(references.filled, named)
        return wanted

    def forward(self, batch: Batch, *, aligning: bool = False) -> PointingOutput:
        """Run all six steps on a training batch.

        With ``aligning``, only the region encoder learns, from ``batch.region_truth`` (TAMP's
        stage 1).

        Raises:
            ModelError: Reference tokens and truth differ in number, or ``aligning`` is set and the
                model or the batch lacks what it needs.
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
            # images without questions: no language loss
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
            raise ModelError(
                f"expected truth for {len(latent)} references, got {len(batch.references)}"
            )
        truths = self.read_truth(batch)
        units = self.decode(latent, seen, wanted=self.wanted_by_truth(latent, truths))
        unit_parts, unit_measures = unit_losses(units, truths, batch.references.groups)
        parts |= unit_parts
        measures |= unit_measures
        return PointingOutput(self._total(parts), parts, measures)

    @staticmethod
    def region_truth(batch: Batch) -> RegionTruth:
        """Return the truth about a batch's regions, for aligning.

        Raises:
            ModelError: The batch has no ``region_truth``.
        """
        if batch.region_truth is None:
            raise ModelError("aligning: expected region_truth in the batch, got None")
        return batch.region_truth

    def _aligned(self, batch: Batch) -> PointingOutput:
        alignment, truth = self.aligner, self.region_truth(batch)
        found = self.align(batch.pixel_values, batch.regions, batch.frames)
        texts = alignment.texts(self.connector, batch.regions, truth)
        losses = alignment.losses(found, texts, alignment.pairs(batch.regions, truth))
        parts = {"location": losses.location, "semantic": losses.semantic}
        return PointingOutput(self._total(parts), parts, {})

    def _total(self, parts: dict[str, Tensor]) -> Float[Tensor, ""]:
        # unused parameters still take part in the backward pass, since other ranks wait for them
        # parts is empty for rows without questions if no head learns from images
        total = tied_zero(self)
        return total + weighted_sum(parts, self.config.loss_weights) if parts else total


def _checked(tokens: Tensor, told: int, marker: str) -> Tensor:
    """Return the tokens, whose number has to be that of the placeholders in the text."""
    if told != len(tokens):
        raise ModelError(
            f"{told} {marker} tokens in the text: expected as many features, got {len(tokens)}"
        )
    return tokens


def _splice(
    embeddings: Float[Tensor, "b t d"], places: Bool[Tensor, "b t"], tokens: Float[Tensor, "n d"]
) -> Float[Tensor, "b t d"]:
    return embeddings.masked_scatter(places[..., None], tokens.to(embeddings.dtype))


def tied_inside(model: nn.Module) -> dict[str, str]:
    """Return the tied weights of transformers models that are nested in a part, by full name.

    Transformers itself finds the tied weights of direct children.
    """
    return {
        f"{name}.{key}": f"{name}.{source}"
        for name, module in model.named_modules()
        if name and isinstance(module, PreTrainedModel)
        for key, source in module.all_tied_weights_keys.items()
    }


def middle_pictures(frames: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Return the index of the picture for each row: its image, or the middle frame of its video."""
    counts = frames.clamp(min=1)
    return counts.cumsum(0) - counts + (counts - 1) // 2


def _shown(
    features: VisionFeatures, frames: Int[Tensor, " b"] | None
) -> tuple[Float[Tensor, "b p v"], tuple[Tensor, ...]]:
    """Return tokens and pyramid of each row's image or middle frame."""
    if frames is None:
        return features.tokens, tuple(features.pyramid)
    shown = middle_pictures(frames)
    return features.tokens[shown], tuple(level[shown] for level in features.pyramid)


def build_pixel_decoder(
    config: PointingVLMConfig, cell_width: int
) -> PixelDecoder | MaskFormerPixelDecoder:
    """Build MaskFormer's pixel decoder if the configuration has one, else `PixelDecoder`."""
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
    """Build the module that makes image tokens of ``width``.

    Raises:
        ModelError: ``tokens_from`` is ``objects`` in a model without proposals, ``projector`` is
            set in a model whose image tokens do not pass a `Projector`, or has unknown fields.
    """
    merging = isinstance(config.vision_config, MergingVisionConfig)
    if config.projector and (merging or config.tokens_from != "encoder"):
        raise ModelError(
            f"projector {config.projector}: expected none, image tokens of this model do not pass it"
        )
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
    """Return the causal mask, without padding and without other turns of independent rows."""
    length = turns.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=turns.device).tril()
    asking, asked = turns[:, :, None], turns[:, None, :]
    related = (asked == 0) | (asked == asking) | ~independent[:, None, None]
    seen = causal & related & (asked >= 0)
    alone = torch.eye(length, dtype=torch.bool, device=turns.device)
    return (seen | alone)[:, None]
