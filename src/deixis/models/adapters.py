"""Pink's adapters: a bottleneck branch before each self-attention (section 3.1, equation 1).

They work with any transformer of Hugging Face without a change to its code. Each adapter is a child
of the attention module, with a forward pre-hook that passes the attention's input through it.
Adapter and hook stay with the module in state dicts, gradient checkpointing and copies.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor, nn

from deixis.errors import CheckpointError, ModelError
from deixis.models.weight_files import read_weights
from deixis.storage import make_folder, whole_file

ADAPTER = "adapter"
"""The name of an adapter inside its attention module."""

FORMAT = "deixis-adapters-1"

# children of an attention module that read its input, by their names in Hugging Face models
_READERS = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("qkv",),
    ("qkv_proj",),
    ("c_attn",),
)
# names of the bias settings in DINOv3's configuration; other models have a single setting
_BIAS_WORDS = {"q_proj": "query_bias", "k_proj": "key_bias", "v_proj": "value_bias"}
_CROSS = ("cross", "encoder_attn")


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Shape of an adapter: ``hidden`` channels, the activation between its two maps, biases.

    ``dropout`` applies to the hidden channels in training.
    """

    hidden: int = 8
    activation: Literal["silu", "gelu", "relu", "identity"] = "silu"
    bias: bool = False
    dropout: float = 0.0


ADAPTER_PRESETS: dict[str, AdapterConfig] = {
    "code": AdapterConfig(activation="identity", bias=True, dropout=0.1),
    "paper": AdapterConfig(),
}
"""Pink's paper has an activation and, by its parameter counts, no biases; its code the reverse."""

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}


class Adapter(nn.Module):
    """Z + s(Z W_d) W_u with activation s; W_u is initialised to zero, an identity."""

    def __init__(self, width: int, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.down = nn.Linear(width, config.hidden, bias=config.bias)
        self.activation = _ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)
        self.up = nn.Linear(config.hidden, width, bias=config.bias)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.up.weight)
        if config.bias:
            nn.init.zeros_(self.down.bias)
            nn.init.zeros_(self.up.bias)

    def forward(self, features: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Add the branch, computed in the adapter's own precision."""
        own = features.to(self.down.weight.dtype)
        detour = self.up(self.dropout(self.activation(self.down(own))))
        return features + detour.to(features.dtype)

    def linear_part(self) -> tuple[Float[Tensor, "d d"], Float[Tensor, " d"]]:
        """Return the branch as one affine map of feature columns: its matrix and its shift.

        Raises:
            ModelError: The adapter has an activation.
        """
        if self.config.activation != "identity":
            raise ModelError(
                f"adapters with {self.config.activation} between their maps are not linear: "
                "expected identity"
            )
        matrix = self.up.weight @ self.down.weight
        if not self.config.bias:
            return matrix, matrix.new_zeros(len(matrix))
        return matrix, self.up.weight @ self.down.bias + self.up.bias


def self_attentions(model: nn.Module) -> dict[str, nn.Module]:
    """Return the self-attention modules of a model by name, in order, without cross-attention."""
    return {
        name: module
        for name, module in model.named_modules()
        if _readers(module) and not any(word in name.lower() for word in _CROSS)
    }


def adapters_of(model: nn.Module) -> dict[str, Adapter]:
    """Return every adapter of a model by its full name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Adapter)}


def insert_adapters(
    model: nn.Module, config: AdapterConfig = ADAPTER_PRESETS["paper"], *, skip_last: int = 0
) -> dict[str, Adapter]:
    """Insert an adapter before every self-attention of a model, in place.

    The output stays the same until an adapter is trained. New adapters are trainable; other
    parameters keep their ``requires_grad``.

    Args:
        model: A transformer whose attentions read their input through linear maps of known names.
        config: Shape of the adapters.
        skip_last: Number of last layers without adapters. Pink's public code skips the layers after
            the one that features are read from, since their adapters would get no gradient.

    Raises:
        ModelError: The model has no self-attention or already has adapters, or ``skip_last`` is out
            of range.
    """
    found = list(self_attentions(model).items())
    if not found:
        raise ModelError(f"{type(model).__name__} has no self-attention to insert adapters before")
    if adapters_of(model):
        raise ModelError(f"{type(model).__name__} already has adapters")
    if not 0 <= skip_last < len(found):
        raise ModelError(f"skip_last: expected 0 to {len(found) - 1}, got {skip_last}")
    chosen = found[: len(found) - skip_last]
    for _, attention in chosen:
        _insert(attention, config)
    return adapters_of(model)


def remove_adapters(model: nn.Module) -> int:
    """Remove all adapters with their weights; return their number."""
    owners = [m for m in model.modules() if isinstance(getattr(m, ADAPTER, None), Adapter)]
    for attention in owners:
        attention._forward_pre_hooks.pop(_hook_of(attention), None)  # noqa: SLF001
        attention._forward_pre_hooks_with_kwargs.pop(_hook_of(attention), None)  # noqa: SLF001
        delattr(attention, ADAPTER)
    return len(owners)


@torch.no_grad()
def merge_adapters(model: nn.Module) -> int:
    """Merge linear adapters into the linear maps that read them; return the number of adapters.

    W(x + Ax + c) + b = (W + WA)x + (b + Wc). If only the adapters have biases, biases are added to
    the maps and set in the model's configuration.

    Raises:
        ModelError: An adapter is not linear, a map is not a plain linear layer (merge LoRA first),
            or the model's configuration has no setting for biases. The model is then unchanged.
    """
    plans: list[tuple[nn.Module, Tensor, Tensor]] = []
    unbiased = False
    for attention in self_attentions(model).values():
        adapter = getattr(attention, ADAPTER, None)
        if not isinstance(adapter, Adapter):
            continue
        matrix, shift = adapter.linear_part()
        readers = [attention.get_submodule(name) for name in _readers(attention)]
        plans += [(reader, matrix, shift) for reader in readers]
        unbiased |= bool(shift.any()) and any(reader.bias is None for reader in readers)
    strange = [reader for reader, _, _ in plans if type(reader) is not nn.Linear]
    if strange:
        raise ModelError(
            f"adapters cannot be merged into {type(strange[0]).__name__}: expected Linear\n"
            "hint: merge LoRA first"
        )
    if unbiased:
        _add_biases(model)
    for reader, matrix, shift in plans:
        weight = reader.get_parameter("weight")
        exact = weight.double()
        if reader.bias is not None:
            bias = reader.get_parameter("bias")
            bias.copy_(bias.double() + exact @ shift.double())
        weight.copy_(exact + exact @ matrix.double())
    return remove_adapters(model)


def save_adapters(model: nn.Module, folder: Path) -> None:
    """Write only the adapters of a model: ``adapters.safetensors`` and ``adapters.json``.

    Raises:
        ModelError: The model has no adapters.
        StorageError: The folder cannot be written; an earlier version stays.
    """
    found = adapters_of(model)
    if not found:
        raise ModelError(f"{type(model).__name__} has no adapters to save")
    config = next(iter(found.values())).config
    described = {
        "format": FORMAT,
        "config": asdict(config),
        "places": [name.removesuffix(f".{ADAPTER}") for name in found],
    }
    tensors = {
        f"{name}.{part}": tensor.detach().cpu().contiguous().clone()
        for name, adapter in found.items()
        for part, tensor in adapter.state_dict().items()
    }
    make_folder(folder)
    description = folder / "adapters.json"
    # written last: a folder without the description holds no adapters
    with (
        whole_file(description) as described_file,
        whole_file(folder / "adapters.safetensors") as weights_file,
    ):
        weights_file.write(save(tensors))
        described_file.write(json.dumps(described, indent=1).encode() + b"\n")
        description.unlink(missing_ok=True)


def load_adapters(model: nn.Module, folder: Path) -> dict[str, Adapter]:
    """Read adapters that `save_adapters` wrote, and insert them if the model has none.

    Raises:
        CheckpointError: Files are missing or damaged, or do not fit the model, which is then
        unchanged.
    """
    try:
        described = json.loads((folder / "adapters.json").read_text())
        if described["format"] != FORMAT:
            raise ValueError(f"format {described['format']!r}")  # noqa: TRY301
        config = AdapterConfig(**described["config"])
        places = [str(place) for place in described["places"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"adapters {folder}: {str(error).splitlines()[0]}") from error
    tensors = read_weights(folder / "adapters.safetensors", f"adapters {folder}")
    _check_fit(model, config, places, tensors, folder)
    if not adapters_of(model):
        attentions = self_attentions(model)
        for place in places:
            _insert(attentions[place], config)
    found = adapters_of(model)
    for name, adapter in found.items():
        own = {part: tensors[f"{name}.{part}"] for part in adapter.state_dict()}
        adapter.load_state_dict(own, strict=True)
    return found


def _check_fit(
    model: nn.Module,
    config: AdapterConfig,
    places: list[str],
    tensors: Mapping[str, Tensor],
    folder: Path,
) -> None:
    attentions = self_attentions(model)
    strange = [place for place in places if place not in attentions]
    if strange:
        raise CheckpointError(f"adapters {folder}: the model has no attention {strange[0]}")
    there = adapters_of(model)
    if there and (
        list(there) != [f"{place}.{ADAPTER}" for place in places]
        or any(adapter.config != config for adapter in there.values())
    ):
        raise CheckpointError(f"adapters {folder}: the model has other adapters")
    shapes: dict[str, tuple[int, ...]] = {}
    for place in places:
        width = _width(attentions[place])
        shapes[f"{place}.{ADAPTER}.down.weight"] = (config.hidden, width)
        shapes[f"{place}.{ADAPTER}.up.weight"] = (width, config.hidden)
        if config.bias:
            shapes[f"{place}.{ADAPTER}.down.bias"] = (config.hidden,)
            shapes[f"{place}.{ADAPTER}.up.bias"] = (width,)
    for name in sorted(shapes.keys() | tensors.keys()):
        held = tuple(tensors[name].shape) if name in tensors else None
        if held != shapes.get(name):
            raise CheckpointError(
                f"adapters {folder}: {name}: expected {shapes.get(name)}, got {held}"
            )


def _readers(module: nn.Module) -> tuple[str, ...]:
    name = type(module).__name__
    if "Attention" not in name or name.endswith("Layer"):
        # a layer that holds the attention's maps itself normalises before them
        return ()
    children = dict(module.named_children())
    for names in _READERS:
        if all(hasattr(children.get(name), "weight") for name in names):
            return names
    return ()


def _width(attention: nn.Module) -> int:
    reader = attention.get_submodule(_readers(attention)[0])
    width = getattr(reader, "in_features", None)
    # the linear map of GPT-2 is stored transposed and has an attribute for its output width only
    return int(width) if width is not None else len(reader.get_parameter("weight"))


def _insert(attention: nn.Module, config: AdapterConfig) -> None:
    weight = next(attention.get_submodule(_readers(attention)[0]).parameters())
    adapter = Adapter(_width(attention), config).to(device=weight.device)
    if weight.is_floating_point():
        adapter = adapter.to(dtype=weight.dtype)
    attention.add_module(ADAPTER, adapter.train(attention.training))
    attention.register_forward_pre_hook(_pass_adapter, with_kwargs=True)


def _pass_adapter(
    attention: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    adapter = attention.get_submodule(ADAPTER)
    if arguments:
        return (adapter(arguments[0]), *arguments[1:]), named
    return arguments, {**named, "hidden_states": adapter(named["hidden_states"])}


def _hook_of(attention: nn.Module) -> int:
    hooks = attention._forward_pre_hooks  # noqa: SLF001
    return next((number for number, hook in hooks.items() if hook is _pass_adapter), -1)


def _add_biases(model: nn.Module) -> None:
    """Add missing biases to every attention, as zeros, and set them in the configuration.

    Raises:
        ModelError: The configuration has no setting for biases; the model is then unchanged.
    """
    config = getattr(model, "config", None)
    words: set[str] = set()
    bare: list[nn.Linear] = []
    for attention in self_attentions(model).values():
        for name in (*_readers(attention), "o_proj"):
            linear = attention.get_submodule(name) if hasattr(attention, name) else None
            if not isinstance(linear, nn.Linear) or getattr(linear, "bias", None) is not None:
                continue
            own = _BIAS_WORDS.get(name, "attention_bias")
            word = own if hasattr(config, own) else "attention_bias"
            if not hasattr(config, word):
                raise ModelError(
                    f"adapters with biases cannot be merged into {type(model).__name__}: its "
                    "attention has no biases, and its configuration no setting for them"
                )
            words.add(word)
            bare.append(linear)
    for word in words:
        setattr(config, word, True)
    for linear in bare:
        linear.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features))
