"""The configuration of a training run: frozen dataclasses that a recipe function returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from deixis.errors import RecipeError
from deixis.models.decoders import DecoderConfig
from deixis.models.decoders.registry import DecoderFields, decoder_config
from deixis.models.references import Offset
from deixis.models.regions import ConnectorConfig, CoordinateRegionConfig, MaskRegionConfig
from deixis.models.regions.alignment import AlignmentConfig
from deixis.models.tuning import Method, Tuning
from deixis.models.vision import SmallVisionConfig
from deixis.models.vision.pretrained import Layer
from deixis.models.vision.video import VideoPooling
from deixis.notation import NOTATIONS

ENTRIES = "entries"
"""Metadata key of a mapping field: a function from an entry's name to the entry's class."""


@runtime_checkable
class Upgrades(Protocol):
    """A recipe class whose saved form differs in earlier versions."""

    @staticmethod
    def upgraded(saved: Mapping[str, object]) -> dict[str, object]:
        """Return saved fields in the form of this version."""


def as_saved_now(kind: object, saved: Mapping[str, object]) -> dict[str, object]:
    """Return the saved fields of a dataclass, of any version, in the form of this version."""
    return kind.upgraded(saved) if isinstance(kind, Upgrades) else dict(saved)


@dataclass(frozen=True, slots=True)
class Optimizer:
    """AdamW with linear warm-up and cosine decay to ``final`` times ``lr`` over the stage.

    ``warmup`` is a number of steps; ``final`` of 1 keeps the rate constant. Biases, norms and
    embeddings have no weight decay. With ``muon_scale``, matrices and kernels are trained by Muon
    at that many times ``lr``: about half as many steps from scratch.
    """

    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: int = 200
    final: float = 0.02
    clip: float = 1.0
    muon_scale: float | None = None


@dataclass(frozen=True, slots=True)
class SceneData:
    """A mixture of questions about drawn scenes: one image and up to ``turns`` questions per row.

    ``levels`` and ``tasks`` are weights by name. ``row_tokens`` limits the text tokens of a row,
    without image tokens. Turns that exceed it are left out and counted in the log.
    """

    seed: int = 0
    long_side: int = 224
    turns: int = 16
    row_tokens: int = 288
    levels: tuple[tuple[str, float], ...] = (
        ("plain", 0.4),
        ("standard", 0.45),
        ("hard", 0.15),
    )
    tasks: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class BuiltData:
    """Conversations that `deixis data build` wrote, in a different order in every epoch.

    ``root`` is a folder that holds the images of all sources, if they were moved. ``row_tokens``
    limits the text tokens of a row with independent turns (see `SceneData`).
    """

    folder: str
    seed: int = 0
    row_tokens: int | None = None
    root: str | None = None


@dataclass(frozen=True, slots=True)
class LiveData:
    """Conversations made from annotations during training, different ones in every epoch.

    Epoch *e* has the conversations that ``deixis data build`` writes with seed ``seed + e`` (see
    `deixis.data.build.LiveDataset`).

    Args:
        sources: Sources in the form of ``--source``; relative paths start at the working folder.
        mixture: Tasks with rates, or the name of a mixture.
        index: Folder for the index of the sources; it is built if missing.
        seed: Seed of the first epoch.
        turns: Largest number of turns in a row; several turns are independent.
        row_tokens: Largest number of text tokens in a row of independent turns (see `SceneData`).
        rules: A name of `deixis.data.tasks.RULE_SETS`.
        changed_rules: Changes to single rules, each as ``rule=value``.
        check_images: Check the header of every image file.
        budget: The share of images that may have problems.
    """

    sources: tuple[str, ...]
    mixture: str
    index: str
    seed: int = 0
    turns: int = 1
    row_tokens: int | None = None
    rules: str = "deixis"
    changed_rules: tuple[str, ...] = ()
    check_images: bool = True
    budget: float = 0.01


Data = SceneData | BuiltData | LiveData
"""Data that a stage can train on."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A training stage: which parts train and how, on which data, for how many steps.

    ``trainable`` names direct children of the model that train in full; ``all`` stands for every
    child that ``tuning`` does not name. ``tuning`` gives parts another method: its name, as in
    ``(("language_model", "lora"),)``, or a `Tuning` with its shape. Other parts are frozen.
    Adapters and LoRA of earlier stages stay in the model.

    ``objective`` is the loss: ``answers`` trains on the text and units of answers; ``alignment``
    aligns the region encoder with words and boxes (stage 1 of TAMP, for models with an
    ``alignment`` configuration). A batch is processed in ``pieces`` to save memory. Answer losses
    are averaged over pieces; alignment losses use all pairs of the batch.

    ``features`` is a folder that caches features of the vision encoder, so that each image is
    encoded once for all epochs, stages and runs; the encoder must be frozen in the stage.

    Raises:
        RecipeError: A part is named twice, a number is out of range, or ``features`` is set and the
            vision encoder trains.
    """

    name: str
    steps: int
    trainable: tuple[str, ...] = ("all",)
    batch_size: int = 16
    data: Data = field(default_factory=SceneData)
    optimizer: Optimizer = field(default_factory=Optimizer)
    tuning: tuple[tuple[str, Method | Tuning], ...] = ()
    objective: Literal["answers", "alignment"] = "answers"
    pieces: int = 1
    features: str | None = None

    def __post_init__(self) -> None:
        named = [*self.trainable, *(part for part, _ in self.tuning)]
        twice = sorted({part for part in named if named.count(part) > 1})
        if twice:
            raise RecipeError(
                f"stage {self.name}: part {twice[0]} is named twice: expected it once, in "
                "trainable or in tuning"
            )
        if self.steps < 1 or self.batch_size < 1:
            raise RecipeError(
                f"stage {self.name}: steps and batch_size must be positive, got {self.steps} and "
                f"{self.batch_size}"
            )
        if self.features is not None and "vision_encoder" in named:
            raise RecipeError(
                f"stage {self.name}: features are cached: expected a frozen vision_encoder"
            )
        if not 1 <= self.pieces <= self.batch_size:
            raise RecipeError(
                f"stage {self.name}: pieces: expected 1 to {self.batch_size}, got {self.pieces}"
            )

    def choices(self, parts: Sequence[str]) -> dict[str, Tuning]:
        """Return the tuning of each part of a model that is not frozen.

        Raises:
            RecipeError: The model lacks a named part.
        """
        chosen = {
            part: how if isinstance(how, Tuning) else Tuning(how) for part, how in self.tuning
        }
        everything = "all" in self.trainable
        full = parts if everything else self.trainable
        named = {*self.trainable, *chosen} - ({"all"} if everything else set())
        unknown = sorted(named - set(parts))
        if unknown:
            raise RecipeError(
                f"stage {self.name}: no parts {unknown}; the model has {sorted(parts)}"
            )
        return {**{part: Tuning("full") for part in full}, **chosen}


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """A pretrained vision encoder, whose weights are read when the model is built.

    ``source`` is a preset of `deixis.models.vision.pyramid.PYRAMID_PRESETS` or
    `deixis.models.vision.loading.ENCODER_PRESETS`, a folder or a hub id. ``image_size`` and
    ``layer`` default to those of the source. ``vit`` and ``convolution`` are folders of a pyramid's
    two encoders, in place of those of its preset.
    """

    source: str
    image_size: int | None = None
    layer: Layer | None = None
    vit: str | None = None
    convolution: str | None = None


@dataclass(frozen=True, slots=True)
class TextEncoderShape:
    """A BERT from scratch that reads descriptions of regions, with the language model's tokens."""

    hidden: int = 128
    layers: int = 2
    heads: int = 4
    intermediate: int = 256
    longest: int = 128


@dataclass(frozen=True, slots=True)
class RegionChoice:
    """Region encoders by name, and the name of the encoder for each type of region.

    The types are those of `deixis.models.regions.RegionEncodersConfig`. Connectors need no
    ``text_encoder`` here: they use the model's ``describer``.
    """

    encoders: tuple[tuple[str, MaskRegionConfig | ConnectorConfig | CoordinateRegionConfig], ...]
    routes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MaskFormerShape:
    """The pixel decoder of MaskFormer (see `MaskFormerPixelDecoder`).

    References attend to the second coarsest map (``second``) or, as in MaskFormer and the public
    code of REF-VLM, to the ``coarsest``.
    """

    width: int = 256
    groups: int = 32
    cells_from: Literal["backbone", "merged"] = "backbone"
    cells: Literal["second", "coarsest"] = "second"


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model to train: a vision encoder, a language model, and the parts that deixis adds.

    Language model: ``language`` is a causal language model, as a folder or a hub id, with
    safetensors and a tokenizer. Without it, a Llama is built from scratch. ``hidden``, ``layers``,
    ``heads`` and ``intermediate`` are its shape, ``language_init`` the standard deviation of its
    initial weights; a tokenizer of ``vocabulary`` tokens is trained on ``corpus`` scenes.

    Vision encoder: ``vision`` is the shape of a small encoder from scratch, or a pretrained
    encoder: an `EncoderChoice` or its ``source`` alone. ``load_in`` is the precision of weights
    read from files; parts that train are held in float32.

    Auxiliary heads: ``concepts`` adds a head that learns words of ``corpus`` scenes from single
    cells (see `concept_loss`), ``proposals`` a head that learns units from them (see
    `ProposalHead`).

    Regions: ``regions`` are region encoders; the default encoder pools cells into
    ``region_tokens``. ``describer`` encodes descriptions for a connector: a folder with a text
    encoder, or the shape of one from scratch. ``alignment`` adds the losses of an alignment stage
    to the connector. ``video`` configures how frames become tokens, for models that take videos.

    Decoders: ``decoders`` are the unit decoders, names of
    `deixis.models.decoders.registry.DECODERS` with their configurations, at most one for each unit
    type. ``pixel_decoder`` selects that of MaskFormer instead of a lighter one. The ``segmenter``
    of a `PromptedConfig` may be a folder, whose weights become part of the model. The mask loss is
    computed at the resolution of the decoder's ``grid`` or, as in REF-VLM, on the whole ``canvas``
    (``mask_target``).

    ``aligned`` is a folder with a released model of the LLaVA or Qwen-VL families. Its encoder,
    projector, language model and tokenizer replace those described above; ``tokens_from`` must be
    ``encoder``. ``aligned_canvas`` is the side of the canvas in pixels, by default the encoder's
    (see `attach_aligned`).

    ``imported`` is a folder that ``deixis import`` wrote: published weights for parts of this
    model, which must have their shapes.

    ``notation`` is a name of `deixis.notation.NOTATIONS`. ``offset`` selects the latent reference:
    the hidden state ``at`` the reference's token, or the one before (``prev``). None selects the
    offset of the ``imported`` weights, or ``at`` without them.

    Raises:
        RecipeError: The notation is unknown, or a decoder's configuration has the wrong class.
        ModelError: A decoder is unknown.
    """

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    intermediate: int = 640
    vocabulary: int = 1024
    corpus: int = 1500
    vision: SmallVisionConfig | EncoderChoice | str = field(default_factory=SmallVisionConfig)
    decoders: Mapping[str, DecoderFields] = field(
        default_factory=lambda: {"box": DecoderConfig(), "mask": DecoderConfig()},
        metadata={ENTRIES: decoder_config},
    )
    pixel_width: int = 32
    region_tokens: int = 1
    concepts: bool = True
    proposals: bool = True
    tokens_from: Literal["encoder", "cells", "objects"] = "objects"
    language_init: float = 0.06
    notation: str = "triplets"
    loss_weights: tuple[tuple[str, float], ...] = ()
    language: str | None = None
    load_in: Literal["float32", "bfloat16"] = "float32"
    regions: RegionChoice | None = None
    describer: TextEncoderShape | str | None = None
    alignment: AlignmentConfig | None = None
    projector: Literal["mlp", "linear", "linear_bias"] = "mlp"
    pixel_decoder: MaskFormerShape | None = None
    video: VideoPooling | None = None
    aligned: str | None = None
    aligned_canvas: int | None = None
    imported: str | None = None
    offset: Offset | None = None
    mask_target: Literal["grid", "canvas"] = "grid"

    def __post_init__(self) -> None:
        if self.notation not in NOTATIONS:
            raise RecipeError(f"notation {self.notation!r}: expected one of {', '.join(NOTATIONS)}")
        for name, config in self.decoders.items():
            expected = decoder_config(name)
            if not isinstance(config, expected):
                raise RecipeError(
                    f"decoder {name!r}: expected {expected.__name__}, got {type(config).__name__}"
                )

    @staticmethod
    def upgraded(saved: Mapping[str, object]) -> dict[str, object]:
        """Move the decoders of saved choices of earlier versions into ``decoders``.

        Earlier versions had one field for each unit type. A box decoder with ``l1`` was that of
        u-LLaVA; a mask decoder with ``source`` was a segmenter.
        """
        rest = {name: value for name, value in saved.items() if name not in _DECODER_FIELDS}
        apart = {unit: saved[key] for key, unit in _DECODER_FIELDS.items() if key in saved}
        if not apart:
            return rest
        decoders: dict[str, object] = {}
        for unit, fields in apart.items():
            if not isinstance(fields, Mapping):
                continue
            if unit == "box" and "l1" in fields:
                decoders["location"] = fields
            elif unit == "mask" and "source" in fields:
                prompted = fields.get("prompted", {})
                decoders["segmenter"] = {**prompted, "segmenter": fields["source"]}
            else:
                decoders[unit] = fields
        return {**rest, "decoders": decoders}


_DECODER_FIELDS = {f"{unit}_decoder": unit for unit in ("box", "mask", "keypoint", "depth")}


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A saved model to continue from: a shipped model's name, a folder or a hub id."""

    name: str

    @staticmethod
    def upgraded(saved: Mapping[str, object]) -> dict[str, object]:
        """Drop fields of earlier versions that had no effect."""
        return {key: value for key, value in saved.items() if not key.startswith("aligned")}


@dataclass(frozen=True, slots=True)
class TrainRecipe:
    """A training run: a model, its stages, checkpoints and the release.

    ``release`` selects what is saved in ``model`` at the end: the ``whole`` model; the whole model
    with LoRA and linear adapters ``merged`` into their weights; or only the ``changes`` to the
    saved model that the run started from.

    ``budget`` is the share of rows whose sample may be damaged, for example by a missing image;
    damaged samples are replaced (see `deixis.training.data.RowBatches`). It applies from the 100th
    row on; with a budget of 0, the first damaged sample ends the run.

    Raises:
        RecipeError: There are no stages, a number is out of range, or fields contradict each other.
    """

    name: str
    model: ModelChoice | SavedModel
    stages: tuple[Stage, ...]
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    workers: int = 1
    log_every: int = 20
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    release: Literal["whole", "merged", "changes"] = "whole"
    budget: float = 0.01

    def __post_init__(self) -> None:
        if not self.stages:
            raise RecipeError(f"recipe {self.name} has no stages")
        for name, least in (
            ("workers", 0),
            ("log_every", 1),
            ("checkpoint_every", 1),
            ("keep_checkpoints", 1),
        ):
            if getattr(self, name) < least:
                raise RecipeError(
                    f"recipe {self.name}: {name}: expected {least} or more, "
                    f"got {getattr(self, name)}"
                )
        if not 0 <= self.budget <= 1:
            raise RecipeError(
                f"recipe {self.name}: budget: expected a share from 0 to 1, got {self.budget}"
            )
        if self.release == "changes" and not isinstance(self.model, SavedModel):
            raise RecipeError(
                f"recipe {self.name}: release changes: expected a saved model to start from"
            )
        half = isinstance(self.model, ModelChoice) and self.model.load_in == "bfloat16"
        if half and self.precision == "float32":
            raise RecipeError(
                f"recipe {self.name}: parts in bfloat16: expected precision bfloat16, got float32"
            )

    @property
    def total_steps(self) -> int:
        """Sum of the steps of all stages."""
        return sum(stage.steps for stage in self.stages)


def going_on_from(recipe: TrainRecipe, name: str) -> TrainRecipe:
    """Return the recipe with its model replaced by a saved one."""
    return replace(recipe, model=SavedModel(name))


def on_built_data(recipe: TrainRecipe, folder: Path) -> TrainRecipe:
    """Return the recipe with a built data set in stages that have questions."""
    return _on(recipe, lambda data: BuiltData(str(folder.resolve()), row_tokens=data.row_tokens))


def on_live_data(
    recipe: TrainRecipe, mixture: str, sources: Sequence[str], index: Path
) -> TrainRecipe:
    """Return the recipe with annotations as the data of stages that have questions."""

    def live(data: Data) -> LiveData:
        turns = 1 if isinstance(data, BuiltData) else data.turns
        return LiveData(
            tuple(sources),
            mixture,
            str(index.resolve()),
            turns=turns,
            row_tokens=data.row_tokens,
        )

    return _on(recipe, live)


def with_moved_index(recipe: TrainRecipe, out: Path) -> TrainRecipe:
    """Return the recipe with ``out/index`` where a stage's index no longer exists.

    A run whose folder was moved thus continues with its own index.
    """
    index = out.resolve() / "index"
    stages = [
        replace(stage, data=replace(stage.data, index=str(index)))
        if isinstance(stage.data, LiveData)
        and index.is_dir()
        and not Path(stage.data.index).is_dir()
        else stage
        for stage in recipe.stages
    ]
    return replace(recipe, stages=tuple(stages))


def _on(recipe: TrainRecipe, made: Callable[[Data], BuiltData | LiveData]) -> TrainRecipe:
    stages = [
        stage
        if isinstance(stage.data, SceneData) and stage.data.turns == 0
        else replace(stage, data=made(stage.data))
        for stage in recipe.stages
    ]
    return replace(recipe, stages=tuple(stages))
