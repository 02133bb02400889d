"""Contrastive learning of regions and descriptions (TAMP, appendix F, equations 7 to 9).

Row *i* of one side is the partner of row *i* of the other; all other rows, also those of other
ranks, are negatives. The encoder activations of a batch of 16,384 do not fit on one device, and its
similarity matrix takes 1 GiB. `cached_backward` keeps the activations of one piece of the batch at
a time (Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", 2021),
and ``rows_at_once`` limits the similarities in memory.
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
    """A learned inverse temperature, the factor of cosine similarities.

    It starts at 1 / 0.07 (TAMP, appendix F), is learned as a logarithm and is clamped to ``most``,
    as in CLIP.
    """

    def __init__(self, initial: float = 1 / 0.07, *, most: float = 100.0) -> None:
        super().__init__()
        self.most = most
        self.log_scale = nn.Parameter(torch.tensor(math.log(initial)))

    def forward(self) -> Float[Tensor, ""]:
        """Clamp the parameter and return the scale."""
        with torch.no_grad():
            # clamp the parameter itself: beyond the bound it would drift without effect
            self.log_scale.clamp_(max=math.log(self.most))
        return self.log_scale.exp()


def contrastive_loss(
    first: Float[Tensor, "n width"],
    second: Float[Tensor, "n width"],
    scale: Float[Tensor, ""],
    *,
    rows_at_once: int | None = None,
) -> Float[Tensor, ""]:
    """Return the symmetric contrastive loss: the mean cross-entropy of both directions.

    Under ``torch.distributed``, the negatives are the rows of all ranks, which may differ in
    number. The mean of the ranks' losses is the loss of the whole batch, and the mean of their
    gradients its gradient, as in data parallel training. If all ranks have the same number of rows,
    each loss is the mean over the rank's rows. Every rank takes part in the same collectives,
    forward and backward, even without rows.

    Similarities are computed in float32 or higher, also under autocast: a cosine in bfloat16 times
    a scale of 100 has an error of 0.4.

    Args:
        first: Features of one side, such as regions; they are normalised here.
        second: Features of the other side, such as descriptions.
        scale: Factor of the cosine similarities.
        rows_at_once: Number of rows whose similarities are kept at a time and recomputed for the
            gradient; all rows by default.

    Returns:
        The loss; zero, connected to the features, if no rank has a row.
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
                # a rank without rows may have no graph, but other ranks wait for its backward pass
                pairs = pairs.detach().requires_grad_()
            first, second = pairs.chunk(2, dim=1)
            firsts, seconds = _gather(pairs, counts).chunk(2, dim=1)
        ways = ((first, seconds), (second, firsts))
        sums = [
            _partner_entropy(own, all_, _exact(scale), start, rows_at_once) for own, all_ in ways
        ]
        return ranks * (sums[0] + sums[1]) / (2 * max(total, 1))


def mean_over_ranks(values: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return this rank's share; averaging over ranks gives the mean of the values of all ranks.

    Ranks may differ in number of values. The result is zero, connected to the values, if no rank
    has any.
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
    """Backpropagate a loss over a whole batch, encoding the batch piece by piece.

    Every piece is encoded twice with the same random numbers: first without keeping activations,
    then with them. The gradients equal those of the whole batch at once. They are added to ``grad``
    of this rank's parameters; with data parallelism, call this within ``no_sync`` and average the
    gradients afterwards.

    Args:
        encoders: One encoder for each side of the loss.
        pieces: The pieces of the batch for each encoder.
        loss: Returns the loss from the features of all sides; its parameters get gradients too.

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
            # the loss does not depend on this side
            continue
        start = 0
        for piece, state in zip(side, before, strict=True):
            state.restore()
            again = encoder(piece)
            if again.requires_grad:
                # false if the piece is empty or the encoder is frozen
                gradient = features.grad[start : start + len(again)]
                torch.autograd.backward(again, gradient.to(again.dtype))
            start += len(again)
    after.restore()
    return value.detach()


class _RandomState:
    """The states of the random generators of the CPU and of all accelerators."""

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
    """Return the summed cross-entropy of own row i against row ``start + i`` of ``every``."""

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
    """Return the number of rows of each rank, and whether any rank needs a gradient."""
    own = torch.tensor([rows, int(learned)], device=device)
    every = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(every, own)
    counts, wanted = zip(*torch.stack(every).tolist(), strict=True)
    return list(counts), any(wanted)


def _gather(
    features: Float[Tensor, "n width"], counts: Sequence[int]
) -> Float[Tensor, "all width"]:
    """Return the rows of all ranks in order of rank; gradients flow back to each row's rank."""
    most = max(counts)
    padded = functional.pad(features, (0, 0, 0, most - len(features)))
    every: Tensor = _Gather.apply(padded)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return torch.cat([rows[:count] for rows, count in zip(every, counts, strict=True)])


class _Gather(torch.autograd.Function):
    """``all_gather`` whose backward pass sums the gradients of all ranks for each rank's rows."""

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
