"""The reference router: hidden states at `<REF>` become latent references (REF-VLM III-D)."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from deixis.errors import ModelError

Offset = Literal["at", "prev"]
"""Which hidden state stands for a reference: the one at its token, or the one before, which predicted it.

REF-VLM reads it at the token; the public code of u-LLaVA, as LISA's, reads the one before.
"""


def read_offset(name: str) -> Offset:
    """An offset by its name.

    Raises:
        ModelError: There is no such offset.
    """
    match name:
        case "at" | "prev":
            return name
        case _:
            raise ModelError(f"offset: expected one of {get_args(Offset)}, got {name!r}")


@dataclass(frozen=True, slots=True)
class LatentReferences:
    """Hidden states of references, padded to the most that one row has.

    Row-major order of ``filled`` is the order of the references in the token sequences:
    reference *k* of the batch is the *k*-th true entry. ``turns`` tells whose turn a reference
    belongs to; references of different turns never see one another.
    """

    states: Float[Tensor, "batch most width"]
    filled: Bool[Tensor, "batch most"]
    turns: Int[Tensor, "batch most"]

    def __len__(self) -> int:
        return int(self.filled.sum())


def pick_references(
    references: LatentReferences, chosen: Bool[Tensor, "batch most"]
) -> tuple[LatentReferences, Int[Tensor, "batch most"]]:
    """Keep the chosen references, moved together (REF-VLM IV-C, "Latent Embeddings Router").

    Returns:
        What is left, and where in its row each reference went; -1 for those that are not in it.
    """
    counts = chosen.sum(1)
    most = max(int(counts.max()), 1)
    order = (~chosen).int().argsort(dim=1, stable=True)[:, :most]
    filled = torch.arange(most, device=chosen.device)[None] < counts[:, None]
    states = references.states.gather(
        1, order[..., None].expand(-1, -1, references.states.shape[2])
    )
    turns = references.turns.gather(1, order)
    places = (chosen.cumsum(1) - 1).masked_fill(~chosen, -1)
    return LatentReferences(states * filled[..., None], filled, turns * filled), places


def route_references(
    hidden: Float[Tensor, "batch tokens width"],
    is_reference: Bool[Tensor, "batch tokens"],
    turns: Int[Tensor, "batch tokens"],
    *,
    offset: Offset = "at",
) -> LatentReferences:
    """Gather the hidden state of each reference token; none is dropped, whatever their number.

    With ``offset`` ``prev``, no row may begin with a reference: nothing has predicted it.
    """
    counts = is_reference.sum(1)
    most = max(int(counts.max()), 1)
    filled = torch.arange(most, device=hidden.device)[None] < counts[:, None]
    states = hidden.new_zeros(hidden.shape[0], most, hidden.shape[2])
    read = is_reference if offset == "at" else functional.pad(is_reference[:, 1:], (0, 1))
    states = states.masked_scatter(filled[..., None], hidden[read])
    owner = turns.new_zeros(filled.shape).masked_scatter(filled, turns[is_reference])
    return LatentReferences(states, filled, owner)
