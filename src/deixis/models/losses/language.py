"""Next-token cross-entropy whose memory does not grow with the vocabulary times the tokens."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from deixis.structures import IGNORE_INDEX


def language_loss(
    head: torch.nn.Module,
    hidden: Float[Tensor, "b t d"],
    labels: Int[Tensor, "b t"],
    weights: Float[Tensor, "b t"] | None = None,
    *,
    tokens_at_once: int = 1024,
) -> Float[Tensor, ""]:
    """Return the next-token cross-entropy (TAMP 2.2, equation 3; u-LLaVA 3.1, equation 1).

    Logits are computed only for labels that are not ignored; most tokens of a sequence with an image
    have no label. For more than ``tokens_at_once`` labels, logits are computed in pieces, and again
    for the gradient, since they are by far the largest tensors of a step.

    Args:
        head: Maps hidden states to logits, token by token and without randomness.
        hidden: Last hidden states; state *i* predicts label *i* + 1.
        labels: Token ids, or `deixis.structures.IGNORE_INDEX`.
        weights: Weights of the labels; equal by default.
        tokens_at_once: The most tokens whose logits are in memory at a time.

    Returns:
        The weighted mean; zero, connected to ``hidden`` and the head, if no label counts.
    """

    def entropy(states: Tensor, wanted: Tensor, scale: Tensor | None) -> Tensor:
        logits = head(states)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if scale is None:
            return functional.cross_entropy(logits, wanted, reduction="sum")
        return (functional.cross_entropy(logits, wanted, reduction="none") * scale).sum()

    kept = labels[:, 1:] != IGNORE_INDEX
    states, wanted = hidden[:, :-1][kept], labels[:, 1:][kept]
    scale = None if weights is None else weights[:, 1:][kept]
    if len(states) <= tokens_at_once:
        # also without labels, so that the head takes part in the backward pass
        total = entropy(states, wanted, scale)
    else:
        total = states.new_zeros((), dtype=torch.promote_types(states.dtype, torch.float32))
        for start in range(0, len(states), tokens_at_once):
            piece = slice(start, start + tokens_at_once)
            total = total + checkpoint(
                entropy,
                states[piece],
                wanted[piece],
                None if scale is None else scale[piece],
                use_reentrant=False,
                preserve_rng_state=False,
            )
    if scale is None:
        return total / max(len(states), 1)
    return total / scale.sum().clamp(min=1e-6)
