"""What a training run is: frozen dataclasses that a recipe function returns."""

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
"""Metadata of a field that is a mapping: what gives the class of an entry by its name."""


@runtime_checkable
class Upgrades(Protocol):
    """Part of a recipe that earlier versions saved otherwise."""

    @staticmethod
    def upgraded(saved: Mapping[str, object]) -> dict[str, object]:
        """What was saved, as this version saves it."""


def as_saved_now(kind: object, saved: Mapping[str, object]) -> dict[str, object]:
    """Fields of a dataclass that any version saved, as this version saves them."""
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
    """A mixture of questions about drawn scenes, one image with up to ``turns`` of them a row.

    ``levels`` and ``tasks`` are weights by name. ``row_tokens`` are the most tokens of text in a
    row, those of the image not counted, as many as these are; turns that would exceed them are left
    out, and counted in the log.
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
    """Conversations of a data set that `deixis data build` wrote, each epoch in another order.

    ``root`` says where the images of all its sources are, where they have moved since.
    ``row_tokens`` are the most tokens of text in a row of independent turns (see `SceneData`).
    """

    folder: str
    seed: int = 0
    row_tokens: int | None = None
    root: str | None = None


@dataclass(frozen=True, slots=True)
class LiveData:
    """Conversations made of annotations while training goes on, each epoch others.

    Epoch *e* asks what ``deixis data build`` with seed ``seed + e`` would write (see
    `deixis.data.build.LiveDataset`).

    Args:
        sources: As ``--source`` names them; paths start from where the run was started.
        mixture: Tasks with rates, or the name of a mixture.
        index: Folder for the index of the sources, which is made where it is missing.
        seed: Of the first epoch.
        turns: Most turns of a row; more than one are independent of one another.
        row_tokens: The most tokens of text in a row of independent turns (see `SceneData`).
        rules: A name of `deixis.data.tasks.RULE_SETS`.
        changed_rules: Rules that are otherwise, each as ``rule=value``.
        check_images: Look at the header of every image file.
        budget: The share of images that may be at fault.
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
"""What a stage can train on."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Which parts train and how, on what, for how long.

    ``trainable`` names direct children of the model that train in full; ``all`` means each of them
    that ``tuning`` does not name. ``tuning`` says for a part how else it trains: a method by its
    name, as in ``(("language_model", "lora"),)``, or a `Tuning` with its shape. What neither names
    is frozen; adapters and LoRA that an earlier stage has put in stay.

    ``objective`` is what is learned: to give the ``answers``, or the ``alignment`` of the region
    encoder with words and boxes before any (TAMP's stage 1, for models that are made for it). A
    batch is worked through in so many ``pieces``, which take less memory: losses of answers are
    then the mean of the pieces', those of the alignment still find their partners in the whole
    batch.

    ``features`` is a folder in which features of the vision encoder are kept, so that each image is
    encoded once for all epochs, stages and runs; the encoder has to be frozen in the stage.

    Raises:
        RecipeError: A part is named twice, or a number is not positive.
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
                f"stage {self.name}: features that are kept: expected a frozen vision_encoder"
            )
        if not 1 <= self.pieces <= self.batch_size:
            raise RecipeError(
                f"stage {self.name}: pieces: expected 1 to {self.batch_size}, got {self.pieces}"
            )

    def choices(self, parts: Sequence[str]) -> dict[str, Tuning]:
        """How each of a model's parts trains that is not frozen.

        Raises:
            RecipeError: The model has no part of a name.
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
    """A pretrained vision encoder, whose weights are read when the model is made.

    ``source`` is a preset of `deixis.models.vision.pyramid.PYRAMID_PRESETS` or
    `deixis.models.vision.loading.ENCODER_PRESETS`, a folder or a hub id. ``image_size`` and
    ``layer`` are the source's own where they are None. ``vit`` and ``convolution`` say where a
    pyramid's two encoders lie, if not where its preset says.
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
    """Region encoders by names of one's own, and which of them each type of region takes.

    As `deixis.models.regions.RegionEncodersConfig`, whose types these are. Connectors need no
    ``text_encoder`` here: they take the model's ``describer``.
    """

    encoders: tuple[tuple[str, MaskRegionConfig | ConnectorConfig | CoordinateRegionConfig], ...]
    routes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MaskFormerShape:
    """MaskFormer's own pixel decoder (see `MaskFormerPixelDecoder`).

    References attend to the coarsest map but one (``second``) or, as in MaskFormer and REF-VLM's
    public code, to the ``coarsest``.
    """

    width: int = 256
    groups: int = 32
    cells_from: Literal["backbone", "merged"] = "backbone"
    cells: Literal["second", "coarsest"] = "second"


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model to train: a language model and a vision encoder between our own parts.

    ``language`` names a causal language model: a folder or a hub id, with safetensors and its own
    tokenizer. Without one a Llama is made from scratch: ``hidden``, ``layers``, ``heads`` and
    ``intermediate`` are its shape, ``language_init`` the standard deviation of its first weights,
    and its ``vocabulary`` tokens are learned from ``corpus`` scenes. ``vision`` is the shape of our
    own encoder, or a pretrained one: an `EncoderChoice`, or its ``source`` alone. ``load_in`` is
    the precision of what is read; parts that train are held in float32.

    ``concepts`` adds the auxiliary head that learns words of ``corpus`` scenes from single cells
    (see `concept_loss`), ``proposals`` the one that learns units from them (see `ProposalHead`).

    ``regions`` are encoders of regions, in place of one that pools cells into ``region_tokens``;
    ``describer`` reads the descriptions for a connector: a folder with a text encoder, or the shape
    of one from scratch. ``alignment`` makes the connector one that a stage can align. ``video``
    is how frames become tokens, for models that take videos. ``pixel_decoder`` is MaskFormer's
    own in place of a lighter one. ``decoders`` are the unit decoders: names of
    `deixis.models.decoders.registry.DECODERS` with a configuration each, no two for one unit type.
    The ``segmenter`` of a `PromptedConfig` may be a folder, whose weights become part of the model.
    Masks are learned at the ``grid`` that they are cut from or, as in REF-VLM, on the whole
    ``canvas`` (``mask_target``).

    ``aligned`` is a folder with a released model of the LLaVA or Qwen-VL families: its encoder,
    projector, language model and tokenizer then take the place of those described here, and image
    tokens come ``from`` its encoder. ``aligned_canvas`` is the side of the canvas in pixels, where
    it is not the encoder's own (see `attach_aligned`).

    ``imported`` is a folder that ``deixis import`` wrote: published weights of Pink or u-LLaVA for
    the parts of this model, which has to have their shapes.

    ``notation`` is a name of `deixis.notation.NOTATIONS`.

    ``offset`` says which hidden state stands for a reference: the one ``at`` its token or the one
    before, ``prev``. Where it is None, it is what the ``imported`` weights were trained with, else
    ``at``.

    Raises:
        RecipeError: The notation is unknown.
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
        """A saved choice with all decoders under ``decoders``.

        Earlier versions had a field for each unit type; a box decoder with an ``l1`` was u-LLaVA's,
        a mask decoder with a ``source`` a segmenter.
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
    """A model to go on from: a shipped one's name, a folder that training wrote, or a hub id."""

    name: str

    @staticmethod
    def upgraded(saved: Mapping[str, object]) -> dict[str, object]:
        """A saved choice without what earlier versions wrote and nothing read."""
        return {key: value for key, value in saved.items() if not key.startswith("aligned")}


@dataclass(frozen=True, slots=True)
class TrainRecipe:
    """A whole run: a model, its stages, what is kept on the way and what is released.

    ``release`` says what lies under ``model`` at the end: the ``whole`` model; the whole model
    with LoRA and linear adapters ``merged`` into the maps that they change; or only the
    ``changes`` to the saved model that the run began from.

    ``budget`` is the share of rows whose sample may be damaged, such as a picture that is gone;
    another sample takes the row (see `deixis.training.data.RowBatches`). It counts from the 100th
    row on; a budget of 0 allows none at all.

    Raises:
        RecipeError: There are no stages, a number is out of its range, or fields do not fit one
            another.
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
                f"recipe {self.name}: release changes: expected a saved model to begin from"
            )
        half = isinstance(self.model, ModelChoice) and self.model.load_in == "bfloat16"
        if half and self.precision == "float32":
            raise RecipeError(
                f"recipe {self.name}: parts in bfloat16: expected precision bfloat16, got float32"
            )

    @property
    def total_steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)


def going_on_from(recipe: TrainRecipe, name: str) -> TrainRecipe:
    """The recipe with a saved model in place of the one that it would make."""
    return replace(recipe, model=SavedModel(name))


def on_built_data(recipe: TrainRecipe, folder: Path) -> TrainRecipe:
    """The recipe with a built data set in place of drawn questions; stages without any stay."""
    return _on(recipe, lambda data: BuiltData(str(folder.resolve()), row_tokens=data.row_tokens))


def on_live_data(
    recipe: TrainRecipe, mixture: str, sources: Sequence[str], index: Path
) -> TrainRecipe:
    """The recipe with annotations in place of drawn questions; stages without any stay."""

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
    """The recipe with the index under ``out`` where the one that it names is not there any more.

    So a run whose folder was moved goes on with its own index.
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
