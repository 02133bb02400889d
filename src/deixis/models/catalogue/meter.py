"""How much memory a forward pass takes, measured on tensors without values.

A tensor on the device ``meta`` has a shape and a type and no bytes. Operations on it make the
same tensors as elsewhere, and let them go at the same time, so what a pass holds at once can be
counted for a model that is larger than the machine.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

_META = torch.device("meta")
# these read the values of their indices, and take them from the processor
_BY_INDEX = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default)


class HeldBytes(TorchDispatchMode):
    """The most bytes that were held at once of what operations made while it was entered.

    What was there before counts nothing, and neither do views of it. What operations use inside and
    do not return, a kernel's working memory, is not seen.

    Whole numbers, truths and masks that a model reads values of are given on the processor; they
    may meet tensors on ``meta`` in one operation, and are then taken without their values.

    Attributes:
        peak: The most bytes at once so far; 0 before the first operation.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.peak = 0
        self._held: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and count what it made."""
        del types
        kwargs = kwargs or {}
        tensors = [*_tensors(args), *_tensors([*kwargs.values()])]
        given = {StorageWeakRef(tensor.untyped_storage()) for tensor in tensors}
        if func not in _BY_INDEX and len({tensor.is_meta for tensor in tensors}) > 1:
            args, kwargs = tree_map(_without_values, (args, kwargs))
        result = func(*args, **kwargs)
        storages = [tensor.untyped_storage() for tensor in _tensors(result)]
        made = {StorageWeakRef(storage): storage.nbytes() for storage in storages}
        # a view has the storage of what it was given
        made = {place: size for place, size in made.items() if place not in given}
        if made:
            held = {place: size for place, size in self._held.items() if not place.expired()}
            self._held = held | made
            self.peak = max(self.peak, sum(self._held.values()))
        return result


class FusedAttention(TorchFunctionMode):
    """Attention that makes its result and nothing else, as fused kernels do.

    Without a kernel, torch's own formula would hold every score in float32, which no accelerator
    does.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replace scaled dot product attention, and run all else as it is."""
        del types
        if func is functional.scaled_dot_product_attention:
            return _attended(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def held_bytes(run: Callable[[], object]) -> int:
    """Measure the most bytes that a forward pass holds at once beside weights and inputs.

    Its result is included; attention is fused (see `FusedAttention`). Nothing is kept for a
    backward pass.
    """
    with torch.no_grad(), FusedAttention(), HeldBytes() as held:
        run()
    return held.peak


def _attended(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    del key, args, kwargs
    return query.new_empty(*query.shape[:-1], value.shape[-1])


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple):
        for branch in tree:
            yield from _tensors(branch)


def _without_values(leaf: Any) -> Any:
    return leaf.to(_META) if isinstance(leaf, Tensor) else leaf
