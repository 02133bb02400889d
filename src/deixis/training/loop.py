"""The training loop: stages of named parts, on Accelerate, resumable to the step."""

import json
import logging
import math
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
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
from deixis.storage import append_lines, clear_drafts, locked_folder, write_file
from deixis.training.build import align_memory, build_model
from deixis.training.checkpoints import (
    RECIPE,
    Checkpoint,
    TrainingState,
    find_checkpoint,
    load_checkpoint,
    read_recipe,
    save_checkpoint,
    set_aside,
)
from deixis.training.data import Loaded, RowBatches, loaded_batches, units_of
from deixis.training.optimizers import OptimizerSet, build_optimizer
from deixis.training.progress import TrainLog, rows_until
from deixis.training.recipe import Optimizer, SceneData, Stage, TrainRecipe, as_saved_now
from deixis.training.release import save_model
from deixis.training.steps import add_gradients

logger = logging.getLogger(__name__)

MAX_BAD_STEPS = 3

BUDGET_FROM = 100
"""Rows after which the budget for damaged samples counts: one of the first ten is no tenth."""

QUARANTINE = "quarantine.jsonl"
"""Rows whose sample was damaged: step, row, sample and reason."""

FREE = ("workers", "log_every", "checkpoint_every", "keep_checkpoints", "budget")
"""Fields of a recipe that change no weight: a run that goes on may have others."""

FREE_PLACES = ("root", "index", "features")
"""Fields of stages and their data that say where something lies: it may have moved."""


def train(
    recipe: TrainRecipe,
    out: Path,
    *,
    resume: bool = False,
    report: Callable[[dict[str, float]], None] | None = None,
) -> PointingVLM:
    """Run a recipe and write checkpoints, a log and at last the model under ``out``.

    Damaged samples are replaced within the recipe's budget, and named in ``quarantine.jsonl``.

    Args:
        recipe: The whole run.
        out: Folder for ``recipe.json``, ``log.jsonl``, ``checkpoints/`` and ``model/``.
        resume: Continue the newest whole checkpoint under ``out``. The recipe may have changed in
            stages that have not begun, and in the fields `FREE` and `FREE_PLACES`.
        report: Called with every logged row.

    Raises:
        StorageError: ``out`` cannot be written, or holds a run and ``resume`` is off.
        LockedError: Another process trains into ``out``.
        CheckpointError: ``resume`` finds nothing to continue, another recipe, or no checkpoint
            that is whole; or more samples are damaged than the budget allows.
        NumericError: The loss was not finite several steps in a row.
        WorkerError: A process that loads data was ended from outside.
    """
    with _alone(out, resume=resume):
        newest = _prepare(recipe, out, resume=resume)
        with _taken_back_if_nothing_began(out, resumed=resume):
            return _train(recipe, out, newest, report=report)


def _train(
    recipe: TrainRecipe,
    out: Path,
    resumed_from: Checkpoint | None,
    *,
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
    newest = None if resumed_from is None else resumed_from.path
    begun = TrainingState(0, 0) if resumed_from is None else resumed_from.state
    state = begun
    check_units(recipe, model)
    log = TrainLog(out / "log.jsonl", report, total=recipe.total_steps, step=begun.step)
    rows_until(out / QUARANTINE, begun.step)
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
        turns=log.turns,
        quarantined=state.quarantined,
    )
    if state.quarantined:
        logger.warning(
            "%d of %d rows have the place of another whose sample is damaged: see %s",
            state.quarantined,
            _rows_before(recipe, state.step),
            out / QUARANTINE,
        )
    return model


@contextmanager
def _taken_back_if_nothing_began(out: Path, *, resumed: bool) -> Iterator[None]:
    """Leave no run behind that ended for want of a model or a source before its first step."""
    try:
        yield
    except DeixisError:
        began = (out / "log.jsonl").exists() or any((out / "checkpoints").glob("step-*"))
        if not resumed and not began:
            for name in (RECIPE, QUARANTINE):
                (out / name).unlink(missing_ok=True)
        raise


@contextmanager
def _alone(out: Path, *, resume: bool) -> Iterator[None]:
    """Keep other processes from training into a folder."""
    if resume and not out.is_dir():
        raise CheckpointError(f"{out} holds no run to resume")
    with locked_folder(out, "training into it"):
        yield


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
    _check_learnable(stage, model)
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
    digest = batches.stream.digest
    if state.step > first and state.data not in {"", digest}:
        raise CheckpointError(
            f"stage {stage.name}: its data set is not the one that the run was trained on until "
            f"step {state.step}\nhint: deixis train --from {out / 'model'} begins a run on other data"
        )
    wrapped = accelerator.prepare_model(model)
    bad_steps = 0
    saved = state.step

    def place(step: int) -> TrainingState:
        """The state after a step of this stage."""
        done = step == last
        return replace(state, step=step, stage=number + done, data="" if done else digest)

    def save() -> None:
        save_checkpoint(
            out / "checkpoints",
            state,
            model,
            optimizer,
            keep=recipe.keep_checkpoints,
            recipe=_resolved(recipe),
        )

    with loaded_batches(batches, workers=recipe.workers) as loading:
        while state.step < last:
            step = state.step
            try:
                pieces = next(loading)
                state = _with_problems(recipe, state, pieces, stage.batch_size, out)
            except (DeixisError, RuntimeError):
                # the last step is whole, whatever has happened to the next one's data
                if step > saved:
                    log.flush(step, state.quarantined)
                    save()
                raise
            lr = learning_rate(stage.optimizer, step - first, stage.steps)
            optimizer.set_rate(lr)
            output = add_gradients(stage, pieces.pieces, model, wrapped, accelerator)
            norm = accelerator.clip_grad_norm_(model.parameters(), stage.optimizer.clip)
            if bool(torch.isfinite(output.loss) & torch.isfinite(norm)):
                optimizer.step()
                bad_steps = 0
                log.add(stage.name, lr, output, float(norm), stage.batch_size, pieces.turns)
            else:
                bad_steps += 1
                logger.warning("step %d: loss or gradient is not finite; step left out", step)
                if bad_steps > MAX_BAD_STEPS:
                    raise NumericError(f"step {step}: {bad_steps} steps in a row were not finite")
                log.leave_out(stage.name, lr, stage.batch_size)
            optimizer.zero_grad()
            state = place(step + 1)
            # read once: a signal that comes while the step is being saved waits for the next
            ending = bool(stopping)
            due = state.step % recipe.checkpoint_every == 0 or state.step == last or ending
            # before the checkpoint, so that the log has each of its steps
            if due or state.step % recipe.log_every == 0:
                log.flush(state.step, state.quarantined)
            if due:
                save()
                saved = state.step
            if ending:
                break
    return state


def _check_learnable(stage: Stage, model: PointingVLM) -> None:
    """Refuse images without questions where no part of the model learns from them."""
    bare = isinstance(stage.data, SceneData) and stage.data.turns == 0
    if bare and model.concept_head is None and model.proposal_head is None:
        raise RecipeError(
            f"stage {stage.name}: images without questions (data.turns 0): expected a model with "
            "concepts or proposals, got neither"
        )


def check_units(recipe: TrainRecipe, model: PointingVLM) -> None:
    """Check that each decoder that trains can learn its units from the data of some stage.

    Anchored decoders learn from every reference, whatever unit it asks for. Data whose tasks are not
    known may hold any unit.

    Raises:
        RecipeError: A decoder trains, and no task of its stages gives units of its type.
    """
    parts = [name for name, _ in model.named_children()]
    for unit, decoder in model.decoders.items():
        part = f"{unit}_decoder"
        stages = [stage for stage in recipe.stages if part in stage.choices(parts)]
        given = [units_of(stage.data) for stage in stages]
        if decoder.anchored or not given or any(one is None or unit in one for one in given):
            continue
        raise RecipeError(
            f"{part} ({type(decoder).__name__}) cannot learn units of type {unit}: expected a task "
            f"that gives them in the data of {', '.join(stage.name for stage in stages)}, got none\n"
            f"hint: name the parts that train in a stage's trainable, without {part}"
        )


def _with_problems(
    recipe: TrainRecipe, state: TrainingState, loaded: Loaded, batch_size: int, out: Path
) -> TrainingState:
    """Count the damaged samples of the next step's batch and write them down.

    Raises:
        CheckpointError: They are more than the budget allows.
    """
    if not loaded.problems:
        return state
    count = state.quarantined + len(loaded.problems)
    lines = [json.dumps({"step": state.step + 1, **asdict(problem)}) for problem in loaded.problems]
    append_lines(out / QUARANTINE, lines)
    for problem in loaded.problems:
        logger.warning(
            "step %d: %s: %s; another sample has its place",
            state.step,
            problem.sample,
            problem.reason,
        )
    rows = _rows_before(recipe, state.step) + batch_size
    over = count > recipe.budget * rows
    if over and (rows >= BUDGET_FROM or not recipe.budget):
        last = loaded.problems[-1]
        raise CheckpointError(
            f"{count} of {rows} samples are damaged, more than the budget of {recipe.budget:.3%}; "
            f"the last: {last.sample}: {last.reason}\n"
            "hint: `deixis data check` finds them; --set budget=0.1 allows a tenth of all samples"
        )
    return replace(state, quarantined=count)


def _rows_before(recipe: TrainRecipe, step: int) -> int:
    """Rows of the first ``step`` steps."""
    rows = 0
    for stage in recipe.stages:
        rows += stage.batch_size * min(step, stage.steps)
        step -= min(step, stage.steps)
    return rows


def _resolved(recipe: TrainRecipe) -> dict[str, Any]:
    """A recipe as its file holds it: through JSON once, so that tuples and lists compare equal."""
    resolved: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return resolved


def _prepare(recipe: TrainRecipe, out: Path, *, resume: bool) -> Checkpoint | None:
    """Check what lies under ``out`` and keep the recipe; give the checkpoint to go on from."""
    path = out / RECIPE
    resolved = _resolved(recipe)
    newest = None
    if path.exists():
        if not resume:
            raise StorageError(f"{out} already holds a run\nhint: --resume continues it")
        kept = _with_defaults(kept_recipe(out), recipe)
        newest = _checkpoint_of(out, kept, recipe)
        step = 0 if newest is None else newest.state.step
        if _so_far(kept, step) != _so_far(resolved, step):
            raise CheckpointError(
                f"{path} is another recipe than the one to resume: only stages that have not begun "
                f"may differ, and {', '.join((*FREE, *FREE_PLACES))}"
            )
    elif resume:
        raise CheckpointError(f"{out} holds no run to resume")
    for folder in (out, out / "checkpoints"):
        clear_drafts(folder)
    write_file(path, json.dumps(resolved, indent=1))
    return newest


def kept_recipe(out: Path) -> dict[str, Any]:
    """The recipe of the run in a folder, as JSON.

    Raises:
        CheckpointError: It is missing or damaged; a hint says how to go on.
    """
    try:
        return read_recipe(out / RECIPE)
    except CheckpointError as error:
        raise damaged_recipe(out, str(error)) from error


def damaged_recipe(out: Path, message: str) -> CheckpointError:
    """The error of a run whose recipe is damaged, with the way to put it back."""
    newest = find_checkpoint(out / "checkpoints").newest
    hint = (
        f"cp {newest.path / RECIPE} {out / RECIPE} puts back the one of the last checkpoint"
        if newest is not None and newest.recipe is not None
        else "put back a copy of it, or begin a run in another folder"
    )
    return CheckpointError(f"{message}\nhint: {hint}")


def _checkpoint_of(out: Path, kept: dict[str, Any], recipe: TrainRecipe) -> Checkpoint | None:
    """The newest whole checkpoint of the run that kept a recipe; damaged ones are set aside.

    Raises:
        CheckpointError: There are checkpoints and all are damaged.
    """

    def check(found: Checkpoint) -> None:
        state, first = found.state, 0
        begins = [0]
        for stage in kept["stages"]:
            first += stage["steps"]
            begins.append(first)
        if state.stage >= len(begins):
            raise CheckpointError(f"stage {state.stage}, expected at most {len(begins) - 1}")
        low = begins[state.stage]
        high = begins[state.stage + 1] - 1 if state.stage + 1 < len(begins) else low
        if not low <= state.step <= high:
            raise CheckpointError(
                f"step {state.step} in stage {state.stage}, expected {low} to {high}"
            )
        own = kept if found.recipe is None else _with_defaults(found.recipe, recipe)
        if _so_far(own, state.step) != _so_far(kept, state.step):
            raise CheckpointError(f"its recipe is not the one in {out / RECIPE}")

    found = find_checkpoint(out / "checkpoints", check)
    if found.newest is None and found.damaged:
        listed = "; ".join(f"{path.name}: {reason}" for path, reason in found.damaged.items())
        raise CheckpointError(
            f"{out / 'checkpoints'}: no checkpoint is whole: {listed}\n"
            "hint: put back a copy of one, or begin a run in another folder"
        )
    if found.newest is None:
        logger.warning("%s: no checkpoint yet: the run begins again at its first step", out)
        return None
    for path, reason in found.damaged.items():
        logger.warning(
            "checkpoint %s is damaged (%s): set aside as %s; the run goes on from %s",
            path,
            reason,
            set_aside(path).name,
            found.newest.path.name,
        )
    return found.newest


def _with_defaults(kept: Any, wanted: Any) -> Any:
    """A kept recipe with the fields that its version of deixis did not have, at their defaults."""
    if is_dataclass(wanted) and isinstance(kept, dict):
        filled: dict[str, Any] = as_saved_now(wanted, kept)
        for field in fields(wanted):
            if field.name in filled:
                filled[field.name] = _with_defaults(filled[field.name], getattr(wanted, field.name))
            elif field.default is not MISSING:
                filled[field.name] = json.loads(json.dumps(field.default))
            elif field.default_factory is not MISSING:
                made = field.default_factory()
                filled[field.name] = json.loads(json.dumps(made, default=asdict))
        return filled
    if isinstance(wanted, Mapping) and isinstance(kept, dict):
        return {name: _with_defaults(one, wanted.get(name)) for name, one in kept.items()}
    if isinstance(wanted, tuple) and isinstance(kept, list):
        given = [_with_defaults(one, other) for one, other in zip(kept, wanted, strict=False)]
        return [*given, *kept[len(given) :]]
    return kept


def _so_far(recipe: dict[str, Any], step: int) -> dict[str, Any]:
    """A recipe without the stages that have not begun at ``step``, and without what is `FREE`."""
    begun, first = [], 0
    for stage in recipe["stages"]:
        if first == 0 or first < step:
            data = stage.get("data")
            if isinstance(data, dict):
                data = {name: value for name, value in data.items() if name not in FREE_PLACES}
            rest = {name: value for name, value in stage.items() if name not in FREE_PLACES}
            begun.append({**rest, "data": data})
        first += stage["steps"]
    return {
        **{name: value for name, value in recipe.items() if name not in FREE},
        "stages": begun,
    }


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
