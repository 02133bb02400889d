"""Peak memory of a forward pass, measured on tensors without values.

A tensor on the device ``meta`` has a shape and a dtype but no storage. Operations create and free
the same tensors as on other devices, so the peak memory of a model larger than the machine can be
computed.
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
# these read the values of indices, which must be on the processor
_BY_INDEX = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default)


class HeldBytes(TorchDispatchMode):
    """Count the peak bytes of tensors that operations create within the context.

    Earlier tensors and views of them are not counted, nor is working memory inside of kernels.

    Integers, targets and masks whose values a model reads are on the processor. Operations may
    combine them with tensors on ``meta``; their values are then ignored.

    Attributes:
        peak: Largest number of bytes at once so far; 0 before the first operation.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.peak = 0
        self._held: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and count its results."""
        del types
        kwargs = kwargs or {}
        tensors = [*_tensors(args), *_tensors([*kwargs.values()])]
        given = {StorageWeakRef(tensor.untyped_storage()) for tensor in tensors}
        if func not in _BY_INDEX and len({tensor.is_meta for tensor in tensors}) > 1:
            args, kwargs = tree_map(_without_values, (args, kwargs))
        result = func(*args, **kwargs)
        storages = [tensor.untyped_storage() for tensor in _tensors(result)]
        made = {StorageWeakRef(storage): storage.nbytes() for storage in storages}
        # a view shares the storage of its input
        made = {place: size for place, size in made.items() if place not in given}
        if made:
            held = {place: size for place, size in self._held.items() if not place.expired()}
            self._held = held | made
            self.peak = max(self.peak, sum(self._held.values()))
        return result


class FusedAttention(TorchFunctionMode):
    """Compute attention without intermediate tensors, as fused kernels do.

    Without a fused kernel, torch would create all scores in float32, which does not happen on
    accelerators.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Replace scaled dot product attention and run other functions unchanged."""
        del types
        if func is functional.scaled_dot_product_attention:
            return _attended(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def held_bytes(run: Callable[[], object]) -> int:
    """Return the peak bytes of a forward pass besides weights and inputs.

    The result is included. Attention is fused (see `FusedAttention`). There is no backward pass.
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
