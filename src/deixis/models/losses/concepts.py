"""The loss of the concept head."""

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


def concept_loss(
    logits: Float[Tensor, "b cells known"],
    cells: Int[Tensor, "b cells"],
    concepts: Bool[Tensor, "m known"],
) -> Float[Tensor, ""]:
    """Return the cross-entropy of each cell's concepts, summed over concepts.

    Cells on instances and cells on the background (-1, where no concept holds) have the same total
    weight. The loss gives every cell of an image a target, whereas a question concerns single
    instances; a vision encoder trained from scratch learns colours and shapes several times faster.
    """
    shown = cells >= 0
    # index -1 selects the last row, which has no concepts
    held = functional.pad(concepts.float(), (0, 0, 0, 1))[cells]
    entropy = functional.binary_cross_entropy_with_logits(
        logits.float(), held, reduction="none"
    ).sum(-1)
    on_instances = (entropy * shown).sum() / shown.sum().clamp(min=1)
    on_ground = (entropy * ~shown).sum() / (~shown).sum().clamp(min=1)
    return on_instances + on_ground
