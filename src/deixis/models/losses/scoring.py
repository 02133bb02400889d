"""What the losses of all unit decoders are made of: a tied zero, a weighted mean, quality."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

RIGHT = 0.5
"""A unit whose agreement with the truth (IoU, OKS, δ1) is above this is right."""

UNIT_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"l1": 5.0, "giou": 2.0, "focal": 20.0, "dice": 1.0, "quality": 0.25}
)
"""Weights of the losses of boxes and masks: REF-VLM's (public code); quality is ours."""


@runtime_checkable
class Learner(Protocol):
    """A module, as far as its parameters go."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:  # noqa: FBT001, FBT002
        """All parameters."""


def tied_zero(module: Learner) -> Float[Tensor, ""]:
    """Give a zero that every trainable parameter of a module takes part in, with a gradient of zero.

    A decoder that has nothing to learn from in a batch still has to take part in the backward
    pass, or distributed ranks wait for one another (REF-VLM IV-C, "Latent Embeddings Router",
    runs it and sets its loss to zero). A product with zero is no such zero: it is NaN where an
    output or a parameter is not finite, and its gradient carries that on to whatever the decoder
    has read. This one sums none of each parameter's numbers: it is 0 and its gradient is 0,
    whatever the numbers are and whatever gradient reaches it, and it touches nothing else.
    """
    none_of_each = [
        parameter.flatten()[:0].float().sum()
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    if not none_of_each:
        return torch.zeros((), device=next(module.parameters()).device)
    return torch.stack(none_of_each).sum()


def weighted_mean(values: Float[Tensor, " n"], scale: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean with weights; zero where all weights are zero or there is nothing."""
    return (values * scale).sum() / scale.sum().clamp(min=1e-6)


def quality_loss(
    logits: Float[Tensor, " n"], agreement: Float[Tensor, " n"], scale: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of quality estimates towards whether units were right."""
    right = (agreement > RIGHT).float()
    each = functional.binary_cross_entropy_with_logits(logits.float(), right, reduction="none")
    return weighted_mean(each, scale)
