"""What a training run is: frozen dataclasses that a recipe function returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from deixis.errors import RecipeError
from deixis.models.decoders import DecoderConfig
from deixis.models.decoders.depth import DepthConfig
from deixis.models.decoders.keypoints import KeypointConfig
from deixis.models.vision import SmallVisionConfig


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

    ``levels`` and ``tasks`` are weights by name. Turns that would make a row longer than
    ``row_tokens`` are left out of it.
    """

    seed: int = 0
    long_side: int = 224
    turns: int = 16
    row_tokens: int = 320
    levels: tuple[tuple[str, float], ...] = (
        ("plain", 0.4),
        ("standard", 0.45),
        ("hard", 0.15),
    )
    tasks: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class BuiltData:
    """Conversations of a data set that `deixis data build` wrote, each epoch in another order.

    ``root`` says where the images of all its sources are, where they have moved since. Turns that
    would make a row longer than ``row_tokens`` are left out of a row of independent turns.
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
        row_tokens: Turns that would make a row of independent turns longer are left out of it.
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
    """Which parts train, on what, for how long.

    ``trainable`` names direct children of the model; ``all`` means each of them.
    """

    name: str
    steps: int
    trainable: tuple[str, ...] = ("all",)
    batch_size: int = 16
    data: Data = field(default_factory=SceneData)
    optimizer: Optimizer = field(default_factory=Optimizer)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise RecipeError(
                f"stage {self.name}: steps and batch_size must be positive, got {self.steps} and "
                f"{self.batch_size}"
            )


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model to train, from scratch: a Llama of this shape between our own parts.

    ``vocabulary`` tokens (and the concepts) are learned from ``corpus`` scenes. ``concepts`` adds
    the auxiliary head that learns words from single cells (see `concept_loss`), ``proposals`` the
    one that learns units from them (see `ProposalHead`). ``language_init`` is the standard
    deviation of the language model's first weights.

    ``aligned`` is a folder with a released model of the LLaVA or Qwen-VL families: its encoder,
    projector, language model and tokenizer then take the place of those described here, and image
    tokens come ``from`` its encoder. ``aligned_canvas`` is the side of the canvas in pixels, where
    it is not the encoder's own (see `attach_aligned`).
    """

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    intermediate: int = 640
    vocabulary: int = 1024
    corpus: int = 1500
    vision: SmallVisionConfig = field(default_factory=SmallVisionConfig)
    box_decoder: DecoderConfig = field(default_factory=DecoderConfig)
    mask_decoder: DecoderConfig = field(default_factory=DecoderConfig)
    keypoint_decoder: KeypointConfig | None = None
    depth_decoder: DepthConfig | None = None
    pixel_width: int = 32
    region_tokens: int = 1
    concepts: bool = True
    proposals: bool = True
    tokens_from: Literal["encoder", "cells", "objects"] = "objects"
    language_init: float = 0.06
    notation: Literal["triplets"] = "triplets"
    loss_weights: tuple[tuple[str, float], ...] = ()
    aligned: str | None = None
    aligned_canvas: int | None = None


@dataclass(frozen=True, slots=True)
class TrainRecipe:
    """A whole run: a model, its stages, and what is kept on the way."""

    name: str
    model: ModelChoice
    stages: tuple[Stage, ...]
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    workers: int = 1
    log_every: int = 20
    checkpoint_every: int = 500
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        if not self.stages:
            raise RecipeError(f"recipe {self.name} has no stages")

    @property
    def total_steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)


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


def _on(recipe: TrainRecipe, made: Callable[[Data], BuiltData | LiveData]) -> TrainRecipe:
    stages = [
        stage
        if isinstance(stage.data, SceneData) and stage.data.turns == 0
        else replace(stage, data=made(stage.data))
        for stage in recipe.stages
    ]
    return replace(recipe, stages=tuple(stages))
