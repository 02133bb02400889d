"""The training loop: stages of named parts, on Accelerate, resumable to the step."""

import json
import logging
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from deixis.errors import (
    CheckpointError,
    DeixisError,
    ModelError,
    NumericError,
    RecipeError,
    StorageError,
)
from deixis.models.pointing import PointingVLM
from deixis.models.tuning import TuningReport, apply_tuning
from deixis.models.vision.cache import FeatureCache
from deixis.models.vision.cached import CachedEncoder
from deixis.processing.processor import Processor
from deixis.training.build import align_memory, build_model
from deixis.training.checkpoints import (
    TrainingState,
    latest_checkpoint,
    load_checkpoint,
    read_manifest,
    read_state,
    save_checkpoint,
)
from deixis.training.data import RowBatches, batch_loader
from deixis.training.optimizers import OptimizerSet, build_optimizer
from deixis.training.progress import TrainLog
from deixis.training.recipe import Optimizer, Stage, TrainRecipe
from deixis.training.release import save_model
from deixis.training.steps import add_gradients

logger = logging.getLogger(__name__)

MAX_BAD_STEPS = 3


def train(
    recipe: TrainRecipe,
    out: Path,
    *,
    resume: bool = False,
    report: Callable[[dict[str, float]], None] | None = None,
) -> PointingVLM:
    """Run a recipe and write checkpoints, a log and at last the model under ``out``.

    Args:
        recipe: The whole run.
        out: Folder for ``recipe.json``, ``log.jsonl``, ``checkpoints/`` and ``model/``.
        resume: Continue the newest complete checkpoint under ``out``. The recipe may have changed
            in stages that have not begun.
        report: Called with every logged row.

    Raises:
        StorageError: ``out`` cannot be written, or holds a run and ``resume`` is off.
        CheckpointError: ``resume`` finds nothing to continue, or another recipe.
        NumericError: The loss was not finite several steps in a row.
    """
    _prepare(recipe, out, resume=resume)
    with _taken_back_if_nothing_began(out, resumed=resume):
        return _train(recipe, out, resume=resume, report=report)


def _train(
    recipe: TrainRecipe,
    out: Path,
    *,
    resume: bool,
    report: Callable[[dict[str, float]], None] | None,
) -> PointingVLM:
    accelerator = Accelerator(
        mixed_precision="bf16" if recipe.precision == "bfloat16" else "no",
        cpu=not torch.cuda.is_available(),
    )
    torch.manual_seed(recipe.seed)
    model, processor = build_model(recipe)
    model.to(accelerator.device)
    align_memory(model)
    newest = latest_checkpoint(out / "checkpoints") if resume else None
    begun = TrainingState(0, 0) if newest is None else read_state(newest)
    state = begun
    log = TrainLog(out / "log.jsonl", report, total=recipe.total_steps)
    first = 0
    trained: dict[str, TuningReport] = {}
    with stop_requests() as stopping:
        for number, stage in enumerate(recipe.stages):
            last = first + stage.steps
            resumed = newest if begun.stage == number else None
            if resumed is not None and begun.step == first:
                # saved before the stage had put anything in; that it does as it did before
                load_checkpoint(resumed, model, None)
            trained[stage.name] = set_trainable(model, stage)
            model.train()
            optimizer = build_optimizer(model, stage.optimizer)
            if resumed is not None and begun.step > first:
                load_checkpoint(resumed, model, optimizer)
            if state.stage == number:
                logger.info("stage %s:\n%s", stage.name, trained[stage.name].describe())
            if state.step < last:
                with remembered_features(model, stage.features):
                    state = _run_stage(
                        recipe,
                        stage,
                        number,
                        (first, last),
                        state,
                        model,
                        processor,
                        optimizer,
                        accelerator,
                        log,
                        out,
                        stopping,
                    )
            first = last
            if stopping and state.step < recipe.total_steps:
                raise SystemExit(143)
    if newest is not None and begun.stage == len(recipe.stages):
        load_checkpoint(newest, model, None)
    save_model(
        model,
        processor,
        recipe,
        out / "model",
        steps=state.step,
        seconds=log.seconds,
        trained=trained,
    )
    return model


@contextmanager
def _taken_back_if_nothing_began(out: Path, *, resumed: bool) -> Iterator[None]:
    """Leave no run behind that ended for want of a model or a source before its first step."""
    try:
        yield
    except DeixisError:
        began = (out / "log.jsonl").exists() or latest_checkpoint(out / "checkpoints") is not None
        if not resumed and not began:
            (out / "recipe.json").unlink(missing_ok=True)
        raise


def _run_stage(
    recipe: TrainRecipe,
    stage: Stage,
    number: int,
    bounds: tuple[int, int],
    state: TrainingState,
    model: PointingVLM,
    processor: Processor,
    optimizer: OptimizerSet,
    accelerator: Accelerator,
    log: TrainLog,
    out: Path,
    stopping: list[int],
) -> TrainingState:
    first, last = bounds
    batches = RowBatches(
        processor,
        stage.data,
        batch_size=stage.batch_size,
        start=state.step,
        stop=last,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        pieces=stage.pieces,
    )
    wrapped = accelerator.prepare_model(model)
    bad_steps = 0
    step = state.step
    for pieces in batch_loader(batches, workers=recipe.workers):
        lr = learning_rate(stage.optimizer, step - first, stage.steps)
        optimizer.set_rate(lr)
        output = add_gradients(stage, pieces, model, wrapped, accelerator)
        norm = accelerator.clip_grad_norm_(model.parameters(), stage.optimizer.clip)
        finite = bool(torch.isfinite(output.loss) & torch.isfinite(norm))
        if finite:
            optimizer.step()
            bad_steps = 0
        else:
            bad_steps += 1
            logger.warning("step %d: loss or gradient is not finite; step left out", step)
            if bad_steps > MAX_BAD_STEPS:
                raise NumericError(f"step {step}: {bad_steps} steps in a row were not finite")
        optimizer.zero_grad()
        step += 1
        log.add(stage.name, lr, output, float(norm), stage.batch_size)
        if step % recipe.log_every == 0 or step == last:
            log.flush(step)
        if step % recipe.checkpoint_every == 0 or step == last or stopping:
            save_checkpoint(
                out / "checkpoints",
                TrainingState(step, number + (step == last)),
                model,
                optimizer,
                keep=recipe.keep_checkpoints,
            )
        if stopping:
            break
    return TrainingState(step, number + (step == last))


def _prepare(recipe: TrainRecipe, out: Path, *, resume: bool) -> None:
    path = out / "recipe.json"
    # through JSON once, so that tuples and lists compare equal
    resolved = json.loads(json.dumps(asdict(recipe)))
    if path.exists():
        if not resume:
            raise StorageError(f"{out} already holds a run\nhint: --resume continues it")
        newest = latest_checkpoint(out / "checkpoints")
        step = 0 if newest is None else read_manifest(newest)["step"]
        if _so_far(json.loads(path.read_text()), step) != _so_far(resolved, step):
            raise CheckpointError(
                f"{path} is another recipe than the one to resume: only stages that have not begun "
                "may differ"
            )
    elif resume:
        raise CheckpointError(f"{out} holds no run to resume")
    try:
        out.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(resolved, indent=1))
        temporary.rename(path)
    except OSError as error:
        raise StorageError(f"{out}: cannot write: {error}") from error


def _so_far(recipe: dict[str, Any], step: int) -> dict[str, Any]:
    """A recipe without the stages that have not begun at ``step``."""
    begun, first = [], 0
    for stage in recipe["stages"]:
        if first == 0 or first < step:
            begun.append(stage)
        first += stage["steps"]
    return {**recipe, "stages": begun}


def set_trainable(model: nn.Module, stage: Stage) -> TuningReport:
    """Let exactly that train which a stage says; what its methods need is put in.

    Raises:
        RecipeError: The model has no part of a name, a method does not fit its part, or nothing
            would train.
    """
    parts = [name for name, _ in model.named_children()]
    try:
        report = apply_tuning(model, stage.choices(parts))
    except ModelError as error:
        raise RecipeError(f"stage {stage.name}: {error}") from error
    if not report.trained:
        raise RecipeError(f"stage {stage.name}: expected something to train, got nothing")
    return report


def learning_rate(config: Optimizer, step: int, steps: int) -> float:
    """Learning rate of a step of a stage: linear warm-up, then cosine."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(steps - config.warmup, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr * (config.final + (1 - config.final) * cosine)


@contextmanager
def remembered_features(model: PointingVLM, folder: str | None) -> Iterator[None]:
    """Keep what a frozen vision encoder gives in ``folder``, and take it from there.

    Raises:
        ModelError: The encoder trains.
        StorageError: The folder cannot be written.
    """
    if folder is None:
        yield
        return
    encoder = model.vision_encoder
    with FeatureCache(Path(folder)) as cache:
        model.vision_encoder = CachedEncoder(encoder, cache)
        try:
            yield
        finally:
            model.vision_encoder = encoder


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT instead of dying of them; the loop saves at its next step."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if received:
            raise SystemExit(143)
        received.append(number)

    try:
        previous = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread: the caller handles signals
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
