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
    """Next-token cross-entropy (TAMP 2.2, equation 3; u-LLaVA 3.1, equation 1).

    Logits exist only for tokens whose label is not ignored: most of a sequence that shows an image
    has none. Where these are more than ``tokens_at_once``, logits are made for that many at a time
    and again for the gradient: they are the largest tensors of a step by far.

    Args:
        head: Hidden states to logits, token by token and without randomness.
        hidden: Last hidden states; state *i* predicts label *i* + 1.
        labels: Token ids, or `deixis.structures.IGNORE_INDEX`.
        weights: How much each label counts; all alike by default.
        tokens_at_once: How many tokens' logits are held at a time.

    Returns:
        The weighted mean; zero, tied to ``hidden`` and the head, where no label counts.
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
        # also where nothing is kept: the head takes part all the same
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
