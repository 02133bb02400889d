"""Device and precision of a model: names that users give, checked and resolved."""

from collections.abc import Mapping
from types import MappingProxyType

import torch

from deixis.errors import ModelError

PRECISIONS: Mapping[str, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
)
"""Types of weights and states by name."""


def choose_device(name: str | None) -> torch.device:
    """The device of a name; by default CUDA (or ROCm) if it is available, else the processor.

    Raises:
        ModelError: Torch has no such device on this machine.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    # the exception depends on how torch was built: a missing driver is an AssertionError
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        accelerator = torch.accelerator.current_accelerator()
        known = ["cpu"] if accelerator is None else ["cpu", accelerator.type]
        raise ModelError(
            f"device {name!r}: not available in torch here: expected one of {known}"
        ) from error
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type in which weights are read; ``auto`` is bfloat16 on an accelerator, else float32.

    Raises:
        ModelError: The precision is unknown.
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in PRECISIONS:
        raise ModelError(f"dtype {name!r}: expected one of {['auto', *PRECISIONS]}")
    return PRECISIONS[name]
