"""Transfer of decoded results from an accelerator to the processor, once for a batch.

Placing units in source pixels reads numbers one by one, and each read of a tensor on an accelerator
waits for all pending computations.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor, nn

_T = TypeVar("_T")


def to_processor(value: _T) -> _T:
    """Bring every tensor inside nested dataclasses, tuples, lists and mappings to the processor.

    Other values, modules included, stay as they are; tensors on the processor are not copied.
    """
    moved: _T = _moved(value)
    return moved


def _moved(value: Any) -> Any:
    match value:
        case Tensor():
            return value.cpu()
        case nn.Module():
            return value
        case tuple() if type(value) is tuple:
            return tuple(_moved(each) for each in value)
        case list():
            return [_moved(each) for each in value]
        case Mapping():
            return {name: _moved(each) for name, each in value.items()}
        case _ if is_dataclass(value) and not isinstance(value, type):
            own = [field.name for field in fields(value) if field.init]
            return replace(value, **{name: _moved(getattr(value, name)) for name in own})
        case _:
            return value
