"""The loss of the words that cells show."""

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


def concept_loss(
    logits: Float[Tensor, "b cells known"],
    cells: Int[Tensor, "b cells"],
    concepts: Bool[Tensor, "m known"],
) -> Float[Tensor, ""]:
    """Which words hold for what a cell shows: cross-entropy summed over words.

    Cells on instances and cells on the ground (-1, where no word holds) weigh alike. The loss gives
    every cell of every image a target, where a question only speaks of one instance; a vision
    encoder that starts from nothing learns colours and shapes several times sooner.
    """
    shown = cells >= 0
    # the last row, which -1 selects, holds no word
    held = functional.pad(concepts.float(), (0, 0, 0, 1))[cells]
    entropy = functional.binary_cross_entropy_with_logits(
        logits.float(), held, reduction="none"
    ).sum(-1)
    on_instances = (entropy * shown).sum() / shown.sum().clamp(min=1)
    on_ground = (entropy * ~shown).sum() / (~shown).sum().clamp(min=1)
    return on_instances + on_ground
