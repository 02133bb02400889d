"""The training loop: stages of named parts, on Accelerate, resumable to the step."""

import json
import logging
import math
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
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
"""Rows before the budget for damaged samples applies: a share of a few rows means little."""

QUARANTINE = "quarantine.jsonl"
"""File that lists rows with damaged samples: step, row, sample and reason."""

FREE = ("workers", "log_every", "checkpoint_every", "keep_checkpoints", "budget")
"""Recipe fields that do not affect the weights: a resumed run may change them."""

FREE_PLACES = ("root", "index", "features")
"""Fields of stages and their data that hold paths: the files may have moved."""


def train(
    recipe: TrainRecipe,
    out: Path,
    *,
    resume: bool = False,
    report: Callable[[dict[str, float]], None] | None = None,
) -> PointingVLM:
    """Run a recipe; write checkpoints, a log and finally the model under ``out``.

    Damaged samples are replaced within the recipe's budget and listed in ``quarantine.jsonl``.

    Args:
        recipe: The configuration of the run.
        out: Folder for ``recipe.json``, ``log.jsonl``, ``checkpoints/`` and ``model/``.
        resume: Continue from the newest valid checkpoint under ``out``. The recipe may differ in
            stages that have not begun and in the fields `FREE` and `FREE_PLACES`.
        report: Called with every logged row.

    Raises:
        StorageError: ``out`` cannot be written, or holds a run and ``resume`` is off.
        LockedError: Another process trains into ``out``.
        CheckpointError: ``resume`` is given and ``out`` holds no run, a run of another recipe, or
            no valid checkpoint; or more samples are damaged than the budget allows.
        NumericError: The loss was not finite in several consecutive steps.
        WorkerError: A process that loads data was killed.
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
    check_units(recipe, model)
    log = TrainLog(out / "log.jsonl", report, total=recipe.total_steps, step=begun.step)
    rows_until(out / QUARANTINE, begun.step)
    trained: dict[str, TuningReport] = {}
    with stop_requests() as stopping:
        run = _Run(recipe, out, model, processor, accelerator, log, begun, stopping)
        for number, stage in enumerate(recipe.stages):
            first, last = run.bounds(number)
            resumed = newest if begun.stage == number else None
            if resumed is not None and begun.step == first:
                load_checkpoint(resumed, model, None)
            trained[stage.name] = set_trainable(model, stage)
            model.train()
            optimizer = build_optimizer(model, stage.optimizer)
            if resumed is not None and begun.step > first:
                load_checkpoint(resumed, model, optimizer)
            if run.state.stage == number:
                logger.info("stage %s:\n%s", stage.name, trained[stage.name].describe())
            if run.state.step < last:
                with remembered_features(model, stage.features):
                    run.train_stage(number, optimizer)
            if stopping and run.state.step < recipe.total_steps:
                raise SystemExit(143)
    if newest is not None and begun.stage == len(recipe.stages):
        load_checkpoint(newest, model, None)
    state = run.state
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
            "%d of %d rows had damaged samples, which were replaced: see %s",
            state.quarantined,
            _rows_before(recipe, state.step),
            out / QUARANTINE,
        )
    return model


@contextmanager
def _taken_back_if_nothing_began(out: Path, *, resumed: bool) -> Iterator[None]:
    """Remove the files of a new run that failed before its first step."""
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
    """Lock a folder against other training processes."""
    if resume and not out.is_dir():
        raise CheckpointError(f"{out} holds no run to resume")
    with locked_folder(out, "training into it"):
        yield


@dataclass(slots=True)
class _Run:
    """A run in progress: what it trains, where it writes, and how far it is."""

    recipe: TrainRecipe
    out: Path
    model: PointingVLM
    processor: Processor
    accelerator: Accelerator
    log: TrainLog
    state: TrainingState
    stopping: list[int]

    def bounds(self, number: int) -> tuple[int, int]:
        """Steps before a stage, and steps up to its end."""
        first = sum(stage.steps for stage in self.recipe.stages[:number])
        return first, first + self.recipe.stages[number].steps

    def train_stage(self, number: int, optimizer: OptimizerSet) -> None:
        """Train the rest of a stage, or up to the step after a signal; save checkpoints."""
        recipe, stage = self.recipe, self.recipe.stages[number]
        first, last = self.bounds(number)
        _check_learnable(stage, self.model)
        batches = self._batches(stage, first, last)
        digest = batches.stream.digest
        wrapped = self.accelerator.prepare_model(self.model)
        bad_steps, saved = 0, self.state.step
        with loaded_batches(batches, workers=recipe.workers) as loading:
            while self.state.step < last:
                step = self.state.step
                try:
                    loaded = next(loading)
                    self._count_problems(loaded, stage.batch_size)
                except (DeixisError, RuntimeError):
                    # the last step is complete, whatever happened to the data of the next one
                    if step > saved:
                        self._save(optimizer)
                    raise
                finite = self._step(stage, step - first, loaded, wrapped, optimizer)
                bad_steps = 0 if finite else bad_steps + 1
                if bad_steps > MAX_BAD_STEPS:
                    raise NumericError(
                        f"step {step}: {bad_steps} consecutive steps were not finite"
                    )
                done = step + 1 == last
                self.state = replace(
                    self.state, step=step + 1, stage=number + done, data="" if done else digest
                )
                # read once: a signal that comes while the step is being saved waits for the next
                ending = bool(self.stopping)
                if done or ending or self.state.step % recipe.checkpoint_every == 0:
                    self._save(optimizer)
                    saved = self.state.step
                elif self.state.step % recipe.log_every == 0:
                    self.log.flush(self.state.step, self.state.quarantined)
                if ending:
                    break

    def _batches(self, stage: Stage, first: int, last: int) -> RowBatches:
        """The rest of a stage's batches, after a check that its data are still the same."""
        step = self.state.step
        batches = RowBatches(
            self.processor,
            stage.data,
            batch_size=stage.batch_size,
            start=step,
            stop=last,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            pieces=stage.pieces,
        )
        if step > first and self.state.data not in {"", batches.stream.digest}:
            raise CheckpointError(
                f"stage {stage.name}: its data set has changed since step {step}\n"
                f"hint: deixis train --from {self.out / 'model'} starts a run on other data"
            )
        return batches

    def _step(
        self,
        stage: Stage,
        done: int,
        loaded: Loaded,
        wrapped: nn.Module,
        optimizer: OptimizerSet,
    ) -> bool:
        """Take a step after ``done`` steps of the stage; leave it out if it is not finite."""
        rate = learning_rate(stage.optimizer, done, stage.steps)
        optimizer.set_rate(rate)
        output = add_gradients(stage, loaded.pieces, self.model, wrapped, self.accelerator)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), stage.optimizer.clip)
        finite = bool(torch.isfinite(output.loss) & torch.isfinite(norm))
        if finite:
            optimizer.step()
            self.log.add(stage.name, rate, output, float(norm), stage.batch_size, loaded.turns)
        else:
            step = self.state.step
            logger.warning("step %d: loss or gradient is not finite; step skipped", step)
            self.log.leave_out(stage.name, rate, stage.batch_size)
        optimizer.zero_grad()
        return finite

    def _count_problems(self, loaded: Loaded, batch_size: int) -> None:
        """Count the damaged samples of the next step's batch and write them down.

        Raises:
            CheckpointError: They are more than the budget allows.
        """
        if not loaded.problems:
            return
        step, budget = self.state.step, self.recipe.budget
        count = self.state.quarantined + len(loaded.problems)
        lines = [json.dumps({"step": step + 1, **asdict(problem)}) for problem in loaded.problems]
        append_lines(self.out / QUARANTINE, lines)
        for problem in loaded.problems:
            logger.warning(
                "step %d: %s: %s; replaced by another sample", step, problem.sample, problem.reason
            )
        rows = _rows_before(self.recipe, step) + batch_size
        if count > budget * rows and (rows >= BUDGET_FROM or not budget):
            last = loaded.problems[-1]
            raise CheckpointError(
                f"{count} of {rows} samples are damaged, more than the budget of {budget:.3%}; "
                f"the last: {last.sample}: {last.reason}\n"
                "hint: `deixis data check` finds them; --set budget=0.1 allows a tenth of all samples"
            )
        self.state = replace(self.state, quarantined=count)

    def _save(self, optimizer: OptimizerSet) -> None:
        """Save a checkpoint, after the log has all of its steps."""
        self.log.flush(self.state.step, self.state.quarantined)
        save_checkpoint(
            self.out / "checkpoints",
            self.state,
            self.model,
            optimizer,
            keep=self.recipe.keep_checkpoints,
            recipe=_resolved(self.recipe),
        )


def _check_learnable(stage: Stage, model: PointingVLM) -> None:
    """Refuse images without questions if no part of the model can learn from them."""
    bare = isinstance(stage.data, SceneData) and stage.data.turns == 0
    if bare and model.concept_head is None and model.proposal_head is None:
        raise RecipeError(
            f"stage {stage.name}: images without questions (data.turns 0): expected a model with "
            "concepts or proposals, got neither"
        )


def check_units(recipe: TrainRecipe, model: PointingVLM) -> None:
    """Check that each trained decoder can learn its units from the data of some stage.

    Anchored decoders learn from every reference, whatever unit types it has. Data with unknown
    tasks may have any unit type.

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


def _rows_before(recipe: TrainRecipe, step: int) -> int:
    """Return the number of rows in the first ``step`` steps."""
    rows = 0
    for stage in recipe.stages:
        rows += stage.batch_size * min(step, stage.steps)
        step -= min(step, stage.steps)
    return rows


def _resolved(recipe: TrainRecipe) -> dict[str, Any]:
    """Return a recipe as read back from JSON, so that tuples compare equal to lists."""
    resolved: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return resolved


def _prepare(recipe: TrainRecipe, out: Path, *, resume: bool) -> Checkpoint | None:
    """Check ``out``, write the recipe and return the checkpoint to resume from, if any."""
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
                f"{path} differs from the recipe to resume: only stages that have not begun "
                f"may differ, and {', '.join((*FREE, *FREE_PLACES))}"
            )
    elif resume:
        raise CheckpointError(f"{out} holds no run to resume")
    for folder in (out, out / "checkpoints"):
        clear_drafts(folder)
    write_file(path, json.dumps(resolved, indent=1))
    return newest


def kept_recipe(out: Path) -> dict[str, Any]:
    """Return the recipe of the run in a folder, as JSON data.

    Raises:
        CheckpointError: The recipe is missing or damaged; a hint names the remedy.
    """
    try:
        return read_recipe(out / RECIPE)
    except CheckpointError as error:
        raise damaged_recipe(out, str(error)) from error


def damaged_recipe(out: Path, message: str) -> CheckpointError:
    """Return the error for a damaged recipe, with a hint how to restore it."""
    newest = find_checkpoint(out / "checkpoints").newest
    hint = (
        f"cp {newest.path / RECIPE} {out / RECIPE} restores the recipe of the last checkpoint"
        if newest is not None and newest.recipe is not None
        else "restore a copy of it, or start a run in another folder"
    )
    return CheckpointError(f"{message}\nhint: {hint}")


def _checkpoint_of(out: Path, kept: dict[str, Any], recipe: TrainRecipe) -> Checkpoint | None:
    """Return the newest valid checkpoint of a run and set damaged ones aside.

    Raises:
        CheckpointError: All checkpoints are damaged.
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
            raise CheckpointError(f"its recipe differs from {out / RECIPE}")

    found = find_checkpoint(out / "checkpoints", check)
    if found.newest is None and found.damaged:
        listed = "; ".join(f"{path.name}: {reason}" for path, reason in found.damaged.items())
        raise CheckpointError(
            f"{out / 'checkpoints'}: no valid checkpoint: {listed}\n"
            "hint: restore a copy of one, or start a run in another folder"
        )
    if found.newest is None:
        logger.warning("%s: no checkpoint yet: the run starts again at its first step", out)
        return None
    for path, reason in found.damaged.items():
        logger.warning(
            "checkpoint %s is damaged (%s): set aside as %s; the run resumes from %s",
            path,
            reason,
            set_aside(path).name,
            found.newest.path.name,
        )
    return found.newest


def _with_defaults(kept: Any, wanted: Any) -> Any:
    """Fill fields that an older version of deixis did not write with their defaults."""
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
    """Return a recipe without `FREE` fields and without stages that have not begun at ``step``."""
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
    """Freeze the model except for the parts that a stage trains; add adapters and LoRA.

    Raises:
        RecipeError: The model lacks a named part, a method does not fit its part, or no part would
            train.
    """
    parts = [name for name, _ in model.named_children()]
    try:
        report = apply_tuning(model, stage.choices(parts))
    except ModelError as error:
        raise RecipeError(f"stage {stage.name}: {error}") from error
    if not report.trained:
        raise RecipeError(f"stage {stage.name}: expected at least one trainable part, got none")
    return report


def learning_rate(config: Optimizer, step: int, steps: int) -> float:
    """Return the learning rate at a step of a stage: linear warm-up, then cosine decay."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(steps - config.warmup, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.lr * (config.final + (1 - config.final) * cosine)


@contextmanager
def remembered_features(model: PointingVLM, folder: str | None) -> Iterator[None]:
    """Cache features of a frozen vision encoder in ``folder`` during the block.

    Raises:
        ModelError: The encoder is trainable.
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
    """Collect SIGTERM and SIGINT, which would end the process; the loop saves at its next step."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if received:
            raise SystemExit(143)
        received.append(number)

    try:
        previous = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: the caller handles signals
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
