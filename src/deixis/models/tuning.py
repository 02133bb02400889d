"""Tuning: which parameters of a part train, by which method, and a report of their numbers."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from deixis.errors import CheckpointError, ModelError
from deixis.models.adapters import (
    ADAPTER_PRESETS,
    AdapterConfig,
    adapters_of,
    insert_adapters,
    merge_adapters,
    self_attentions,
)

Method = Literal["freeze", "full", "lora", "adapters", "lora+adapters"]

LORA = "default"
"""The adapter name of our LoRA in PEFT."""


@dataclass(frozen=True, slots=True)
class LoraChoice:
    """Low-rank updates of linear maps; the defaults are those of u-LLaVA.

    ``targets`` are module names or their endings.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")


@dataclass(frozen=True, slots=True)
class Tuning:
    """The method by which a part of a model trains.

    ``freeze`` and ``full`` apply to all parameters. ``lora`` and ``adapters`` freeze the part and
    train the inserted modules (u-LLaVA; Pink). ``lora+adapters`` is TAMP's third stage.
    ``skip_last`` is the number of last layers without adapters. ``also`` names modules, or their
    endings, whose weights train in addition, such as u-LLaVA's ``embed_tokens`` and ``lm_head``,
    which new tokens need.

    Raises:
        ModelError: The method is unknown.
    """

    method: Method = "full"
    lora: LoraChoice = field(default_factory=LoraChoice)
    adapters: AdapterConfig = ADAPTER_PRESETS["paper"]
    skip_last: int = 0
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ModelError(f"tuning {self.method!r}: expected one of {list(get_args(Method))}")

    @property
    def puts_in(self) -> frozenset[str]:
        """Modules that the method inserts: ``adapters``, ``lora``, both or none."""
        return frozenset(self.method.split("+")) & {"adapters", "lora"}


@dataclass(frozen=True, slots=True)
class TuningRow:
    """Parameter counts of one part."""

    part: str
    method: Method
    adapters: int
    lora: int
    own: int
    total: int

    @property
    def trained(self) -> int:
        """Number of trainable parameters."""
        return self.adapters + self.lora + self.own


@dataclass(frozen=True, slots=True)
class TuningReport:
    """Parameter counts of a model by part."""

    rows: tuple[TuningRow, ...]

    @property
    def trained(self) -> int:
        """Number of trainable parameters."""
        return sum(row.trained for row in self.rows)

    @property
    def total(self) -> int:
        """Number of all parameters."""
        return sum(row.total for row in self.rows)

    def describe(self) -> str:
        """Return a line for each part and one for the whole model."""
        lines = [
            f"{row.part}: {row.method}, {row.trained:,} of {row.total:,} train"
            + (
                f" (adapters {row.adapters:,}, LoRA {row.lora:,})"
                if row.adapters + row.lora
                else ""
            )
            for row in self.rows
        ]
        share = 100 * self.trained / max(self.total, 1)
        return "\n".join([*lines, f"all: {self.trained:,} of {self.total:,} train ({share:.2f}%)"])


def apply_tuning(
    model: nn.Module, choices: Mapping[str, Tuning], *, others: Method = "freeze"
) -> TuningReport:
    """Set how every direct child of a model trains; insert missing adapters and LoRA.

    The output of the model stays the same. Existing adapters and LoRA, as of an earlier stage, are
    kept; they train if the method includes them or is ``full``. Parameters in the model's
    ``always_frozen`` stay frozen. Trained parameters are converted to float32. The inserted modules
    are recorded in the configuration's ``tuning``, if it has one.

    Args:
        model: A model with named parts, such as `PointingVLM`.
        choices: Tuning by part name.
        others: Method of all other parts.

    Raises:
        ModelError: A part is unknown, a method finds no modules to work on, or the part has
            adapters or LoRA of another shape.
    """
    parts = _parts(model, choices)
    if others not in {"freeze", "full"}:
        raise ModelError(f"others: expected freeze or full, got {others!r}")
    rest = Tuning(others)
    frozen = getattr(model, "always_frozen", frozenset[str]())
    report = TuningReport(
        tuple(
            tune(part, choices.get(name, rest), name=name, frozen=_inside(name, frozen))
            for name, part in parts.items()
        )
    )
    note_tuning(model)
    return report


def tune(
    part: nn.Module, choice: Tuning, *, name: str = "model", frozen: Collection[str] = ()
) -> TuningRow:
    """Apply a tuning to one module, except for ``frozen`` parameters, and count.

    Raises:
        ModelError: The method finds no modules to work on, or the module has adapters or LoRA of
            another shape.
    """
    put_in(part, choice, name=name)
    also = _found(part, choice.also, name)
    trained: dict[int, bool] = {}
    for parameter_name, parameter in part.named_parameters(remove_duplicate=False):
        kind = _kind(parameter_name)
        own = choice.method == "full" or parameter_name.startswith(also)
        chosen = kind in choice.puts_in or (own and parameter.is_floating_point())
        # a weight with two names trains if either is chosen
        trained[id(parameter)] = trained.get(id(parameter), False) or chosen
    for parameter_name, parameter in part.named_parameters(remove_duplicate=False):
        if plain_name(parameter_name) in frozen:
            trained[id(parameter)] = False
    for parameter in part.parameters():
        parameter.requires_grad_(trained[id(parameter)])
        if trained[id(parameter)] and parameter.dtype in {torch.float16, torch.bfloat16}:
            # updates are too small for half precision
            parameter.data = parameter.data.float()
    return count(part, choice.method, name=name)


def put_in(part: nn.Module, choice: Tuning, *, name: str = "model") -> None:
    """Insert adapters and LoRA that a tuning needs and a module lacks; its output stays the same.

    Raises:
        ModelError: The method finds no modules to work on, or the module has adapters or LoRA of
            another shape.
    """
    there = inserted(part)
    if "adapters" in choice.puts_in:
        if "adapters" in there.puts_in:
            asked = (choice.adapters, choice.skip_last)
            if asked != (there.adapters, there.skip_last):
                raise ModelError(
                    f"part {name} already has adapters: {there.adapters}, expected {choice.adapters}"
                )
        else:
            insert_adapters(part, choice.adapters, skip_last=choice.skip_last)
    if "lora" in choice.puts_in:
        if "lora" not in there.puts_in:
            insert_lora(part, choice.lora)
        elif _sorted_targets(choice.lora) != there.lora:
            raise ModelError(f"part {name} already has LoRA: {there.lora}, expected {choice.lora}")


def inserted(part: nn.Module) -> Tuning:
    """Return the tuning that describes a module's adapters and LoRA; ``freeze`` without any."""
    adapters, lora = adapters_of(part), _lora_layers(part)
    found = Tuning("freeze")
    if adapters:
        skipped = len(self_attentions(part)) - len(adapters)
        shape = next(iter(adapters.values())).config
        found = replace(found, method="adapters", adapters=shape, skip_last=skipped)
    if lora:
        config = next(
            noted[LORA]
            for noted in (getattr(module, "peft_config", None) for module in part.modules())
            if isinstance(noted, dict)
        )
        choice = LoraChoice(
            config.r, config.lora_alpha, config.lora_dropout, tuple(config.target_modules)
        )
        both: Method = "lora+adapters" if adapters else "lora"
        found = replace(found, method=both, lora=_sorted_targets(choice))
    return found


def write_tuning(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Return the adapters and LoRA of each part as plain data for JSON, without untouched parts."""
    found = {name: inserted(part) for name, part in model.named_children()}
    return {
        name: {
            "method": choice.method,
            **({"lora": asdict(choice.lora)} if "lora" in choice.puts_in else {}),
            **(
                {"adapters": asdict(choice.adapters), "skip_last": choice.skip_last}
                if "adapters" in choice.puts_in
                else {}
            ),
        }
        for name, choice in found.items()
        if choice.puts_in
    }


def read_tuning(stored: Mapping[str, Any]) -> dict[str, Tuning]:
    """Read the output of `write_tuning`.

    Raises:
        ModelError: A field is unknown or of a wrong type.
    """
    try:
        return {name: _read_choice(dict(values)) for name, values in stored.items()}
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"tuning: {error}") from error


def restore_tuning(model: nn.Module, stored: Mapping[str, Any]) -> None:
    """Insert adapters and LoRA that `write_tuning` described into a new model.

    It does not change which parameters are trainable.

    Raises:
        ModelError: A part is unknown, or a method finds no modules to work on.
    """
    choices = read_tuning(stored)
    for name, part in _parts(model, choices).items():
        if name in choices:
            trained = [p for p in part.parameters() if p.requires_grad]
            put_in(part, choices[name], name=name)
            for parameter in trained:
                parameter.requires_grad_(True)


def note_tuning(model: nn.Module) -> None:
    """Record inserted adapters and LoRA in the configuration's ``tuning``, if it has one."""
    config: Any = getattr(model, "config", None)
    if hasattr(config, "tuning"):
        config.tuning = write_tuning(model)


def fold_tuning(model: nn.Module) -> dict[str, Tuning]:
    """Merge LoRA and linear adapters; return the tuning of parts that keep their adapters.

    Adapters with an activation are kept, and those with biases that an attention cannot hold.
    """
    stayed = {}
    for name, part in model.named_children():
        merge_lora(part)
        if not adapters_of(part):
            continue
        try:
            merge_adapters(part)
        except ModelError:
            stayed[name] = inserted(part)
    note_tuning(model)
    return stayed


def count(part: nn.Module, method: Method, *, name: str = "model") -> TuningRow:
    """Count the parameters of a module and those that train."""
    trained = {"adapters": 0, "lora": 0, "own": 0}
    total = 0
    for parameter_name, parameter in part.named_parameters():
        total += parameter.numel()
        if parameter.requires_grad:
            trained[_kind(parameter_name)] += parameter.numel()
    return TuningRow(name, method, trained["adapters"], trained["lora"], trained["own"], total)


def has_lora(module: nn.Module) -> bool:
    """Return whether a module contains LoRA."""
    return any(_kind(name) == "lora" for name, _ in module.named_parameters())


def insert_lora(module: nn.Module, choice: LoraChoice) -> int:
    """Insert LoRA into a module in place, initialised to no change; return the number of maps.

    PEFT freezes other parameters and lengthens the names of the maps' weights; `merge_lora` and
    `remove_lora` restore the names.

    Args:
        module: A model of transformers, or a module that contains some.
        choice: Rank, scale, dropout, and target maps.

    Raises:
        ModelError: No map matches the targets.
    """
    from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415  # takes seconds

    config = LoraConfig(
        r=choice.rank,
        lora_alpha=choice.alpha,
        lora_dropout=choice.dropout,
        target_modules=list(choice.targets),
    )
    ends = tuple(f".{target}" for target in choice.targets)
    parts = [
        part
        for part in _library_models(module)
        if any(f".{name}".endswith(ends) for name, _ in part.named_modules())
    ]
    if not parts:
        raise ModelError(f"{type(module).__name__} has no modules {list(choice.targets)} for LoRA")
    for part in parts:
        inject_adapter_in_model(config, part, adapter_name=LORA)
    layers = _lora_layers(module)
    for layer in layers.values():
        # new modules are in training mode, and LoRA may have dropout
        layer.train(layer.get_base_layer().training)
    return len(layers)


def merge_lora(module: nn.Module) -> int:
    """Merge LoRA into the maps and remove it; return the number of maps."""
    layers = _lora_layers(module)
    for name, layer in layers.items():
        layer.merge(safe_merge=True)
        _replace(module, name, layer.get_base_layer())
    _forget_lora(module)
    return len(layers)


def remove_lora(module: nn.Module) -> int:
    """Remove LoRA with its weights; return the number of maps."""
    layers = _lora_layers(module)
    for name, layer in layers.items():
        layer.unmerge() if layer.merged else None
        _replace(module, name, layer.get_base_layer())
    _forget_lora(module)
    return len(layers)


def tuned_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the adapters and LoRA of a model by full name."""
    return {
        name: parameter.detach().cpu().contiguous().clone()
        for name, parameter in model.named_parameters()
        if _kind(name) != "own"
    }


def load_tuned_state(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load the output of `tuned_state` into a model with the same tuning.

    Raises:
        CheckpointError: The tensors do not match those of the model, which is then unchanged.
    """
    own = {name: p for name, p in model.named_parameters() if _kind(name) != "own"}
    for name in sorted(own.keys() | tensors.keys()):
        there = tuple(own[name].shape) if name in own else None
        given = tuple(tensors[name].shape) if name in tensors else None
        if there != given:
            raise CheckpointError(f"tuned weights: {name}: expected {there}, got {given}")
    for name, parameter in own.items():
        parameter.data.copy_(tensors[name])


def _kind(name: str) -> Literal["adapters", "lora", "own"]:
    steps = name.split(".")
    if "adapter" in steps:
        return "adapters"
    if any(step.startswith("lora_") for step in steps):
        return "lora"
    return "own"


def plain_name(name: str) -> str:
    """Return a parameter's name without the infix that LoRA adds to weights of maps."""
    return name.replace(".base_layer.", ".")


def _parts(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    parts = dict(model.named_children())
    unknown = sorted(set(names) - set(parts))
    if unknown:
        raise ModelError(f"unknown part {unknown[0]!r}; expected one of {sorted(parts)}")
    return parts


def _inside(part: str, names: Collection[str]) -> frozenset[str]:
    start = f"{part}."
    return frozenset(name.removeprefix(start) for name in names if name.startswith(start))


def _found(part: nn.Module, wanted: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Return prefixes of the names of parameters in modules with the wanted names."""
    found = []
    for end in wanted:
        named = [own for own, _ in part.named_modules() if f".{own}".endswith(f".{end}")]
        if not named:
            raise ModelError(f"part {name} has no module {end!r} to train as well")
        found += [f"{own}." for own in named]
    return tuple(found)


def _sorted_targets(choice: LoraChoice) -> LoraChoice:
    """Return the choice with sorted targets: PEFT keeps them as a set."""
    return replace(choice, targets=tuple(sorted(set(choice.targets))))


def _read_choice(values: dict[str, Any]) -> Tuning:
    known = {one.name for one in fields(Tuning)}
    if not known >= values.keys():
        raise KeyError(f"unknown fields {sorted(values.keys() - known)}")
    if "lora" in values:
        lora = dict(values["lora"])
        values["lora"] = LoraChoice(**{**lora, "targets": tuple(lora["targets"])})
    if "adapters" in values:
        values["adapters"] = AdapterConfig(**values["adapters"])
    return Tuning(**values)


def _library_models(module: nn.Module) -> list[nn.Module]:
    """Return the models of transformers in a module: PEFT requires attributes of such models."""
    if isinstance(module, PreTrainedModel):
        return [module]
    return [model for child in module.children() for model in _library_models(child)]


def _lora_layers(module: nn.Module) -> dict[str, Any]:
    if not has_lora(module):
        return {}
    from peft.tuners.lora import LoraLayer  # noqa: PLC0415  # takes seconds

    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}


def _forget_lora(module: nn.Module) -> None:
    """Remove the attributes that PEFT sets on a model with LoRA."""
    for one in module.modules():
        if LORA in getattr(one, "peft_config", {}):
            del one.peft_config


def _replace(module: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, new)
