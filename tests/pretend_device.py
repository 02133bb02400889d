"""A simulated accelerator on the processor: real values with another device label.

A tensor on the simulated device is a wrapper that says ``meta`` and computes on the processor. An
operation that mixes it with a tensor of the processor raises, as CUDA's kernels do, and every read
of its values is written down with the place in the source that asked for it, since each one makes
an accelerator's queue run empty. Results can be compared with those of the processor.

    with PretendDevice() as device:
        predictor = deixis.load("scenes-tiny", device="meta")
        answer = predictor.ask(image, "Where is the circle?")
    assert {read.place for read in device.reads} <= KNOWN

What it does not show: kernels that a real device lacks, memory, speed, and the numbers of autocast,
which is off here.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")

_MOVES = frozenset({"aten::copy_", "aten::_to_copy", "aten::to", "aten::set_"})
_INDEXED = frozenset({"aten::index", "aten::index_put", "aten::index_put_"})
# results whose size depends on values, and values that become Python's
_WAITS = frozenset(
    {
        "aten::_local_scalar_dense",
        "aten::_unique",
        "aten::_unique2",
        "aten::bincount",
        "aten::equal",
        "aten::is_nonzero",
        "aten::item",
        "aten::masked_select",
        "aten::nonzero",
        "aten::unique_consecutive",
        "aten::unique_dim",
    }
)
_NOT_PLACES = ("torch", "jaxtyping", "beartype", "pretend_device", "contextlib", "functools")


class MixedDevicesError(RuntimeError):
    """An operation got tensors of the simulated device and of the processor."""


@dataclass(frozen=True, slots=True)
class Read:
    """A read of values that synchronises an accelerator, and the function that caused it."""

    operation: str
    place: str

    @property
    def own(self) -> bool:
        """Whether deixis caused it, and not a library that it calls."""
        return self.place.startswith("deixis.")


class OnDevice(Tensor):
    """A tensor on the simulated device; ``held`` has its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, *, requires_grad: bool = False) -> "OnDevice":
        """Wrap a tensor of the processor."""
        made: OnDevice = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
            requires_grad=requires_grad,
        )
        made.held = held.detach()
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]  # untyped
        del tensor_contents
        return f"OnDevice({self.held})"

    def data_ptr(self) -> int:
        """Return the address of the values."""
        return self.held.data_ptr()

    def tolist(self) -> Any:
        """The values as Python has them, which is a read."""
        _note("tolist")
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """Raise, as a tensor on any accelerator does."""
        del force
        raise TypeError("can't convert a tensor on the device to numpy: use .cpu() first")

    def __array__(self, dtype: Any = None) -> Any:
        del dtype
        return self.numpy()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch types the one that does nothing
        cls,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute on the values inside."""
        del types
        return _run(func, args, dict(kwargs or {}))


class PretendDevice:
    """While entered, ``device="meta"`` is an accelerator with values.

    Attributes:
        reads: Reads of values so far, in order.
    """

    _active: "list[PretendDevice]" = []  # noqa: RUF012  # the innermost one notes reads

    def __init__(self) -> None:
        self.reads: list[Read] = []
        self._modes: list[Any] = []
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> "PretendDevice":
        """Enable the device."""
        self._undo = [*_without_autocast(), *_with_fused_kernels()]
        self._modes = [_Constructors(), _Dispatch()]  # type: ignore[no-untyped-call]  # torch's
        for mode in self._modes:
            mode.__enter__()
        self._active.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disable the device."""
        self._active.remove(self)
        for mode in reversed(self._modes):
            mode.__exit__(kind, error, trace)
        for undo in self._undo:
            undo()

    def places(self) -> dict[str, int]:
        """Return the number of reads by function."""
        counts: dict[str, int] = {}
        for read in self.reads:
            counts[read.place] = counts.get(read.place, 0) + 1
        return counts

    @contextmanager
    def counted(self) -> Iterator[list[Read]]:
        """Collect the reads of a block."""
        start = len(self.reads)
        found: list[Read] = []
        yield found
        found += self.reads[start:]


def on_device(module: nn.Module) -> nn.Module:
    """Put parameters and buffers on the simulated device in place; shared ones stay shared."""
    moved: dict[int, Tensor] = {}
    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None and not isinstance(parameter, OnDevice):
                if id(parameter) not in moved:
                    held = OnDevice(parameter.detach(), requires_grad=parameter.requires_grad)
                    moved[id(parameter)] = nn.Parameter(held, parameter.requires_grad)
                part._parameters[name] = moved[id(parameter)]  # type: ignore[assignment]  # made so
        for name, buffer in list(part._buffers.items()):
            if buffer is not None and not isinstance(buffer, OnDevice):
                part._buffers[name] = OnDevice(buffer.detach())
    return module


def values(tensor: Tensor) -> Tensor:
    """Return a tensor's values on the processor, without counting a read."""
    return tensor.held if isinstance(tensor, OnDevice) else tensor.detach()


def _note(operation: str) -> None:
    if PretendDevice._active:
        PretendDevice._active[-1].reads.append(Read(operation, _place()))


def _place() -> str:
    """The innermost function that is neither torch's nor ours here."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.split(".", maxsplit=1)[
            0
        ] not in _NOT_PLACES and not frame.f_code.co_filename.startswith("<"):
            return f"{module}:{frame.f_code.co_qualname}"
        frame = frame.f_back
    return "?"


def _is_device(value: Any) -> bool:
    if isinstance(value, torch.device):
        return value.type == DEVICE.type
    return value is not None and torch.device(value).type == DEVICE.type


@dataclass(frozen=True, slots=True)
class _Facts:
    """Properties of an operation from its schema."""

    name: str
    changes_first: bool
    is_view: bool


@functools.cache
def _facts(func: Any) -> _Facts:
    schema = func._schema
    aliases = [each.alias_info for each in schema.returns]
    return _Facts(
        schema.name,
        schema.is_mutable and schema.name.endswith("_"),
        any(alias is not None and not alias.is_write for alias in aliases),
    )


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    facts = _facts(func)
    tensors: list[Tensor] = []
    plain_args = tuple(_unwrapped(each, tensors) for each in args)
    plain_kwargs = {key: _unwrapped(each, tensors) for key, each in kwargs.items()}
    here = [one for one in tensors if isinstance(one, OnDevice)]
    if facts.name == "aten::_has_compatible_shallow_copy_type" and len(here) == 1:
        # moving a parameter creates a new one
        return False
    _check_devices(facts.name, args, tensors, here)
    if here and _waits(facts.name, args, kwargs):
        _note(facts.name.removeprefix("aten::"))
    if "pin_memory" in plain_kwargs:
        plain_kwargs["pin_memory"] = False
    result = func(*plain_args, **plain_kwargs)
    if "out" in kwargs:
        return kwargs["out"]
    if facts.changes_first and isinstance(args[0], Tensor):
        changed = args[0]
        if isinstance(changed, OnDevice) and changed.shape != changed.held.shape:
            raise NotImplementedError(
                f"{facts.name}: a shape that changes in place is not followed"
            )
        return changed
    target = _target(args, kwargs)
    if not (_is_device(target) if target is not None else here):
        return result
    # a view of a tensor that autograd may follow is one too, in inference mode as well
    if facts.is_view and torch.is_inference_mode_enabled():
        with torch.inference_mode(mode=all(one.is_inference() for one in here)):
            return _wrapped(result)
    return _wrapped(result)


def _unwrapped(value: Any, tensors: list[Tensor]) -> Any:
    """A value with what is inside tensors of the device; all tensors are noted."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return value.held if isinstance(value, OnDevice) else value
    if isinstance(value, list | tuple):
        return type(value)([_unwrapped(each, tensors) for each in value])
    if isinstance(value, torch.device) and value.type == DEVICE.type:
        return torch.device("cpu")
    return value


def _wrapped(value: Any) -> Any:
    if isinstance(value, Tensor):
        return OnDevice(value)
    if isinstance(value, list | tuple):
        return type(value)([_wrapped(each) for each in value])
    return value


def _check_devices(
    name: str, args: tuple[Any, ...], tensors: list[Tensor], here: list[OnDevice]
) -> None:
    other = [one for one in tensors if not isinstance(one, OnDevice)]
    if any(_is_device(one.device) and one.numel() for one in other):
        raise NotImplementedError(f"{name}: a tensor was made on the device in a way not followed")
    if not here or name in _MOVES:
        return
    if name in _INDEXED and isinstance(args[0], OnDevice):
        # an accelerator takes indices from the processor, not the other way round
        indices = {id(one) for one in args[1] if one is not None}
        other = [one for one in other if id(one) not in indices]
    # a single number may come from the processor, as on CUDA
    strangers = [one for one in other if one.dim() and not _is_device(one.device)]
    if strangers:
        shape = tuple(strangers[0].shape)
        raise MixedDevicesError(f"{name}: expected one device, got {DEVICE} and cpu of {shape}")


def _waits(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operation on the device needs values before it can go on."""
    match name:
        case "aten::_to_copy" | "aten::to":
            target = _target(args, kwargs)
            return isinstance(args[0], OnDevice) and target is not None and not _is_device(target)
        case "aten::copy_":
            return not isinstance(args[0], OnDevice)
        case "aten::index":
            return _by_truth(args[1])
        case "aten::index_put" | "aten::index_put_":
            # one value under a mask is filled in without a list of places
            return _by_truth(args[1]) and args[2].numel() != 1
        case "aten::repeat_interleave":
            return kwargs.get("output_size") is None
        case _:
            return name in _WAITS


def _target(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.device | None:
    """The device that an operation is told to leave its result on."""
    told = [*args, kwargs.get("device")]
    return next((one for one in told if isinstance(one, torch.device)), None)


def _by_truth(indices: Any) -> bool:
    return any(isinstance(one, OnDevice) and one.dtype == torch.bool for one in indices)


class _Constructors(TorchFunctionMode):
    """What native code fills with data of Python is made on the processor, then moved."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        named = dict(kwargs or {})
        if func in {torch.tensor, torch.as_tensor} and _is_device(named.get("device")):
            device = named.pop("device")
            return func(*args, **named).to(device)
        if func is Tensor.new_tensor and isinstance(args[0], OnDevice):
            named.setdefault("dtype", args[0].dtype)
            named.pop("device", None)
            return torch.tensor(*args[1:], **named).to(DEVICE)
        indexes = {Tensor.__getitem__, Tensor.__setitem__}
        if func in indexes and isinstance(args[0], OnDevice):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(
                torch.tensor(one).to(DEVICE) if isinstance(one, list) else one for one in index
            )
            args = (args[0], index, *args[2:])
        return func(*args, **named)


class _Dispatch(TorchDispatchMode):
    """Follows what is made on the device without a tensor that is there already."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        return _run(func, args, dict(kwargs or {}))


def _without_autocast() -> list[Callable[[], None]]:
    """Let the device take autocast and not do it: the processor's casts would happen inside."""
    kind = torch.amp.autocast_mode.autocast
    begin = kind.__init__

    @functools.wraps(begin)
    def made(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        if device_type == DEVICE.type:
            begin(self, "cpu", enabled=False)
        else:
            begin(self, device_type, *args, **kwargs)

    enabled = torch.is_autocast_enabled

    def asked(*device_type: str) -> bool:
        return device_type != (DEVICE.type,) and enabled(*device_type)

    return [
        _replaced(kind, "__init__", made),
        _replaced(torch, "is_autocast_enabled", asked),
    ]


def _with_fused_kernels() -> list[Callable[[], None]]:
    """Let optimizers have one kernel for all parameters, as on CUDA."""
    home = import_module("torch.optim.optimizer")
    name = "_get_fused_kernels_supported_devices"
    before: Callable[[], list[str]] = getattr(home, name)
    return [_replaced(home, name, lambda: [*before(), DEVICE.type])]


def _replaced(owner: Any, name: str, new: Any) -> Callable[[], None]:
    before = getattr(owner, name)
    setattr(owner, name, new)
    return lambda: setattr(owner, name, before)
