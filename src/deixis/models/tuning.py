"""Which parameters of a part train, and how: one choice, and a report that counts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from transformers import PreTrainedModel

from deixis.errors import CheckpointError, ModelError
from deixis.models.adapters import ADAPTER_PRESETS, AdapterConfig, adapters_of, insert_adapters

Method = Literal["freeze", "full", "lora", "adapters", "lora+adapters"]

LORA = "default"
"""The name that PEFT keeps our LoRA under."""


@dataclass(frozen=True, slots=True)
class LoraChoice:
    """Low-rank updates of linear maps: u-LLaVA's rank and scale on queries and values.

    ``targets`` are names of modules, or ends of them.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")


@dataclass(frozen=True, slots=True)
class Tuning:
    """How one part of a model is trained.

    ``freeze`` and ``full`` say themselves; ``lora`` and ``adapters`` freeze the part and train
    what is put into it (u-LLaVA; Pink); ``lora+adapters`` is TAMP's third stage. ``skip_last``
    leaves layers at the end without adapters.
    """

    method: Method = "full"
    lora: LoraChoice = field(default_factory=LoraChoice)
    adapters: AdapterConfig = ADAPTER_PRESETS["paper"]
    skip_last: int = 0


@dataclass(frozen=True, slots=True)
class TuningRow:
    """What trains in one part, in numbers."""

    part: str
    method: Method
    adapters: int
    lora: int
    own: int
    total: int

    @property
    def trained(self) -> int:
        """Numbers that training may change."""
        return self.adapters + self.lora + self.own


@dataclass(frozen=True, slots=True)
class TuningReport:
    """What trains in a model, part by part."""

    rows: tuple[TuningRow, ...]

    @property
    def trained(self) -> int:
        """Numbers that training may change."""
        return sum(row.trained for row in self.rows)

    @property
    def total(self) -> int:
        """All numbers."""
        return sum(row.total for row in self.rows)

    def describe(self) -> str:
        """A line for each part and one for all of them."""
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
    """Say for every direct child of a model how it is trained; what it lacks for that is put in.

    Nothing that the model computes changes. Adapters and LoRA that are there already, as after an
    earlier stage, stay, and train where the choice names them or says ``full``.

    Args:
        model: A model of named parts, such as `PointingVLM`.
        choices: How each part is trained, by its name.
        others: How the parts are trained that are not named.

    Raises:
        ModelError: There is no such part, or nothing in it that the method could work on.
    """
    parts = dict(model.named_children())
    unknown = sorted(set(choices) - set(parts))
    if unknown:
        raise ModelError(f"unknown part {unknown[0]!r}; expected one of {sorted(parts)}")
    if others not in {"freeze", "full"}:
        raise ModelError(f"others: expected freeze or full, got {others!r}")
    rest = Tuning(others)
    return TuningReport(
        tuple(tune(part, choices.get(name, rest), name=name) for name, part in parts.items())
    )


def tune(part: nn.Module, choice: Tuning, *, name: str = "model") -> TuningRow:
    """Make one module train as chosen, and count.

    Raises:
        ModelError: There is nothing in it that the method could work on.
    """
    wanted = choice.method.split("+")
    if "adapters" in wanted and not adapters_of(part):
        insert_adapters(part, choice.adapters, skip_last=choice.skip_last)
    if "lora" in wanted and not has_lora(part):
        insert_lora(part, choice.lora)
    for parameter_name, parameter in part.named_parameters():
        kind = _kind(parameter_name)
        parameter.requires_grad_(
            kind in wanted or (choice.method == "full" and parameter.is_floating_point())
        )
    return count(part, choice.method, name=name)


def count(part: nn.Module, method: Method, *, name: str = "model") -> TuningRow:
    """Count what trains in a module as it is."""
    trained = {"adapters": 0, "lora": 0, "own": 0}
    total = 0
    for parameter_name, parameter in part.named_parameters():
        total += parameter.numel()
        if parameter.requires_grad:
            trained[_kind(parameter_name)] += parameter.numel()
    return TuningRow(name, method, trained["adapters"], trained["lora"], trained["own"], total)


def has_lora(module: nn.Module) -> bool:
    """Whether a module has LoRA in it."""
    return any(_kind(name) == "lora" for name, _ in module.named_parameters())


def insert_lora(module: nn.Module, choice: LoraChoice) -> int:
    """Put LoRA into a module in place, as identity; gives the number of maps that got one.

    PEFT freezes the rest, and the maps' own weights get longer names; `merge_lora` and
    `remove_lora` give them back.

    Args:
        module: A model of transformers, or a module that holds some.
        choice: Rank, scale, dropout, and which maps.

    Raises:
        ModelError: No map has a name that is wanted.
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
        raise ModelError(f"{type(module).__name__} has none of {list(choice.targets)} for LoRA")
    for part in parts:
        inject_adapter_in_model(config, part, adapter_name=LORA)
    layers = _lora_layers(module)
    for layer in layers.values():
        # new modules are in training mode, and LoRA has dropout
        layer.train(layer.get_base_layer().training)
    return len(layers)


def merge_lora(module: nn.Module) -> int:
    """Add what LoRA has learned to the maps and take it out; gives the number of maps."""
    layers = _lora_layers(module)
    for name, layer in layers.items():
        layer.merge(safe_merge=True)
        _replace(module, name, layer.get_base_layer())
    return len(layers)


def remove_lora(module: nn.Module) -> int:
    """Take LoRA out again, and what it has learned with it; gives the number of maps."""
    layers = _lora_layers(module)
    for name, layer in layers.items():
        layer.unmerge() if layer.merged else None
        _replace(module, name, layer.get_base_layer())
    return len(layers)


def tuned_state(model: nn.Module) -> dict[str, Tensor]:
    """Adapters and LoRA of a model by full name: what there is to keep beside its own weights."""
    return {
        name: parameter.detach().cpu().contiguous().clone()
        for name, parameter in model.named_parameters()
        if _kind(name) != "own"
    }


def load_tuned_state(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `tuned_state` gave, into a model that was tuned in the same way.

    Raises:
        CheckpointError: The tensors are not exactly those of the model; it is unchanged.
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


def _library_models(module: nn.Module) -> list[nn.Module]:
    """The models of transformers in a module: PEFT asks them for what other modules have not."""
    if isinstance(module, PreTrainedModel):
        return [module]
    return [model for child in module.children() for model in _library_models(child)]


def _lora_layers(module: nn.Module) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer  # noqa: PLC0415  # takes seconds

    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}


def _replace(module: nn.Module, name: str, new: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, new)
