"""Contrastive learning of regions and descriptions (TAMP, appendix F, equations 7 to 9).

Row *i* of one side belongs to row *i* of the other; all other rows are negatives, those of other
ranks too. A batch of 16,384 has more encoder activations than one device holds, and a similarity
matrix of 1 GiB: `cached_backward` keeps the activations of one piece of the batch at a time (Gao
et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021), and
``rows_at_once`` the similarities of some rows.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Piece = TypeVar("Piece")


class SimilarityScale(nn.Module):
    """What cosines are multiplied with: an inverse temperature that is learned.

    It begins at 1 / 0.07 (TAMP, appendix F), is learned as its logarithm, and never passes
    ``most``, as in CLIP.
    """

    def __init__(self, initial: float = 1 / 0.07, *, most: float = 100.0) -> None:
        super().__init__()
        self.most = most
        self.log_scale = nn.Parameter(torch.tensor(math.log(initial)))

    def forward(self) -> Float[Tensor, ""]:
        """Give the scale, after bringing the parameter back within its bound."""
        with torch.no_grad():
            # the parameter itself, so that it does not wander off where it has no effect
            self.log_scale.clamp_(max=math.log(self.most))
        return self.log_scale.exp()


def contrastive_loss(
    first: Float[Tensor, "n width"],
    second: Float[Tensor, "n width"],
    scale: Float[Tensor, ""],
    *,
    rows_at_once: int | None = None,
) -> Float[Tensor, ""]:
    """Half the cross-entropy of finding each row's partner, half of finding it the other way.

    Under ``torch.distributed``, partners are sought among the rows of all ranks, which may differ
    in number. The mean of the ranks' losses is then the loss of the whole batch, and the mean of
    their gradients its gradient, as data parallel training takes it; where ranks have equally many
    rows, each loss is the mean over its own. Every rank takes part in the same collectives, forward
    and backward, whatever rows it has.

    Similarities are computed in float32 at least, under autocast too: a cosine of bfloat16 times a
    scale of 100 is off by 0.4.

    Args:
        first: Features of one side, such as regions; their length does not matter.
        second: Features of the other side, such as descriptions.
        scale: What cosines are multiplied with.
        rows_at_once: Similarities of this many rows are held at a time and computed again for the
            gradient; all rows by default.

    Returns:
        The loss; zero, tied to the features, where no rank has a row.
    """
    with _without_autocast(first.device):
        first, second = (functional.normalize(_exact(side), dim=-1) for side in (first, second))
        firsts, seconds = first, second
        start, total, ranks = 0, len(first), 1
        if distributed.is_available() and distributed.is_initialized():
            ranks = distributed.get_world_size()
            pairs = torch.cat([first, second], dim=1)
            counts, learned = _exchange(
                len(pairs), learned=pairs.requires_grad, device=pairs.device
            )
            start, total = sum(counts[: distributed.get_rank()]), sum(counts)
            if learned and not pairs.requires_grad:
                # a rank without rows may have no graph, and the others wait for its backward pass
                pairs = pairs.detach().requires_grad_()
            first, second = pairs.chunk(2, dim=1)
            firsts, seconds = _gather(pairs, counts).chunk(2, dim=1)
        ways = ((first, seconds), (second, firsts))
        sums = [
            _partner_entropy(own, all_, _exact(scale), start, rows_at_once) for own, all_ in ways
        ]
        return ranks * (sums[0] + sums[1]) / (2 * max(total, 1))


def mean_over_ranks(values: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """The mean of the rows of all ranks, in the sense that the ranks' results have it as their mean.

    Ranks may differ in number of rows; zero, tied to the values, where none has any.
    """
    total, ranks = len(values), 1
    if distributed.is_available() and distributed.is_initialized():
        counts, _ = _exchange(len(values), learned=values.requires_grad, device=values.device)
        ranks, total = distributed.get_world_size(), sum(counts)
    return ranks * values.sum() / max(total, 1)


def cached_backward(
    encoders: Sequence[Callable[[Piece], Float[Tensor, "piece width"]]],
    pieces: Sequence[Sequence[Piece]],
    loss: Callable[..., Float[Tensor, ""]],
) -> Float[Tensor, ""]:
    """Add the gradient of a loss over a whole batch, encoding it piece by piece.

    Every piece is encoded twice, first without activations and then, with the same random numbers,
    with them; gradients are those of the batch in one go. They are added to the parameters'
    ``grad`` of this rank: under data parallelism, run this within ``no_sync`` and average them
    afterwards.

    Args:
        encoders: One for each side of the loss.
        pieces: For each encoder, its side of the batch in pieces.
        loss: Gives the loss of all rows of all sides; its own parameters get their gradient too.

    Returns:
        The loss, without a graph.
    """
    states: list[list[_RandomState]] = []
    sides: list[Tensor] = []
    for encoder, side in zip(encoders, pieces, strict=True):
        states.append([])
        encoded: list[Tensor] = []
        for piece in side:
            states[-1].append(_RandomState())
            with torch.no_grad():
                encoded.append(encoder(piece))
        sides.append(torch.cat(encoded).requires_grad_())
    value = loss(*sides)
    value.backward()
    after = _RandomState()
    for encoder, side, before, features in zip(encoders, pieces, states, sides, strict=True):
        if features.grad is None:
            # nothing of this side is in the loss
            continue
        start = 0
        for piece, state in zip(side, before, strict=True):
            state.restore()
            again = encoder(piece)
            if again.requires_grad:
                # else the piece is empty, or nothing of this side is learned
                gradient = features.grad[start : start + len(again)]
                torch.autograd.backward(again, gradient.to(again.dtype))
            start += len(again)
    after.restore()
    return value.detach()


class _RandomState:
    """Where the random streams of the processor and of all accelerators are now."""

    def __init__(self) -> None:
        self.processor = torch.get_rng_state()
        self.devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def restore(self) -> None:
        torch.set_rng_state(self.processor)
        if self.devices:
            torch.cuda.set_rng_state_all(self.devices)


def _partner_entropy(
    own: Float[Tensor, "n width"],
    every: Float[Tensor, "all width"],
    scale: Float[Tensor, ""],
    start: int,
    rows_at_once: int | None,
) -> Float[Tensor, ""]:
    """Sum over ``own`` rows of the cross-entropy of finding row ``start + i`` in ``every``."""

    def entropy(rows: Tensor, partners: Tensor) -> Tensor:
        return functional.cross_entropy(scale * rows @ every.T, partners, reduction="sum")

    partners = torch.arange(start, start + len(own), device=own.device)
    if rows_at_once is None or len(own) <= rows_at_once:
        return entropy(own, partners)
    total = own.new_zeros(())
    for rows, some in zip(own.split(rows_at_once), partners.split(rows_at_once), strict=True):
        total = total + checkpoint(
            entropy, rows, some, use_reentrant=False, preserve_rng_state=False
        )
    return total


def _exact(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def _exchange(rows: int, *, learned: bool, device: torch.device) -> tuple[list[int], bool]:
    """How many rows each rank has, and whether any of them wants a gradient."""
    own = torch.tensor([rows, int(learned)], device=device)
    every = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(every, own)
    counts, wanted = zip(*torch.stack(every).tolist(), strict=True)
    return list(counts), any(wanted)


def _gather(
    features: Float[Tensor, "n width"], counts: Sequence[int]
) -> Float[Tensor, "all width"]:
    """The rows of all ranks, in order of rank; a gradient goes back to the rank it came from."""
    most = max(counts)
    padded = functional.pad(features, (0, 0, 0, most - len(features)))
    every: Tensor = _Gather.apply(padded)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return torch.cat([rows[:count] for rows, count in zip(every, counts, strict=True)])


class _Gather(torch.autograd.Function):
    """``all_gather`` with a gradient: each rank gets the sum of what all ranks say of its rows."""

    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor) -> Tensor:
        del ctx
        every = [torch.empty_like(features) for _ in range(distributed.get_world_size())]
        distributed.all_gather(every, features.contiguous())
        return torch.stack(every)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Any) -> Tensor:
        del ctx
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total[distributed.get_rank()]
