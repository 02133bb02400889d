"""The one place where results leave an accelerator.

Placing units in source pixels reads numbers one by one, and each read of a tensor on an accelerator
waits for everything that is still to be computed. So all that was decoded comes to the processor
first, once for a batch.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from torch import Tensor, nn

_T = TypeVar("_T")


def to_processor(value: _T) -> _T:
    """Bring every tensor inside nested dataclasses, tuples, lists and mappings to the processor.

    Anything else, modules included, stays as it is; what lies on the processor is not copied.
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
