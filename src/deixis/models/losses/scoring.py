"""Functions for the losses of all unit decoders: tied zero, weighted mean, quality loss."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

RIGHT = 0.5
"""A unit is right if its agreement with the truth (IoU, OKS, δ1) is above this value."""

UNIT_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {"l1": 5.0, "giou": 2.0, "focal": 20.0, "dice": 1.0, "quality": 0.25}
)
"""Weights of the losses of boxes and masks, from REF-VLM's public code; deixis adds quality."""


@runtime_checkable
class Learner(Protocol):
    """A module with parameters."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:  # noqa: FBT001, FBT002
        """All parameters."""


def tied_zero(module: Learner) -> Float[Tensor, ""]:
    """Return a zero that depends on every trainable parameter of a module, with zero gradients.

    A decoder without truth in a batch still has to take part in the backward pass, otherwise
    distributed ranks wait for one another (REF-VLM IV-C, "Latent Embeddings Router", runs the
    decoder and sets its loss to zero). Multiplying an output by zero is not safe: the product is
    NaN if an output or a parameter is not finite, and so are the gradients of the decoder's inputs.
    This function sums an empty slice of each parameter: value and gradients are always 0, and the
    decoder's inputs get no gradient.
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
    """Return the weighted mean; zero if all weights are zero or there are no values."""
    return (values * scale).sum() / scale.sum().clamp(min=1e-6)


def quality_loss(
    logits: Float[Tensor, " n"], agreement: Float[Tensor, " n"], scale: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Return the binary cross-entropy of quality logits; the target is 1 for right units."""
    right = (agreement > RIGHT).float()
    each = functional.binary_cross_entropy_with_logits(logits.float(), right, reduction="none")
    return weighted_mean(each, scale)
