"""The reference router: hidden states at `<REF>` become latent references (REF-VLM IV-C)."""

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
class QuerySets:
    """Places of references in sets of ``queries``, a set for each turn that has any.

    ``places`` number the queries of all ``count`` sets of a row one after the other; padding has
    the place after the last.
    """

    places: Int[Tensor, "batch most"]
    count: int
    queries: int

    def line_up(
        self, states: Float[Tensor, "batch most width"]
    ) -> Float[Tensor, "batch sets queries width"]:
        """Put the states of references into their sets; queries without a reference are zero."""
        total = self.count * self.queries
        rows, _, width = states.shape
        where = self.places[..., None].expand(-1, -1, width)
        lined = states.new_zeros(rows, total + 1, width).scatter(1, where, states)
        return lined[:, :total].unflatten(1, (self.count, self.queries))

    def take_back(
        self, states: Float[Tensor, "batch sets queries *rest"]
    ) -> Float[Tensor, "batch most *rest"]:
        """Give each reference the state of its query; padding gets that of any."""
        flat = states.flatten(1, 2)
        rows = torch.arange(len(flat), device=flat.device)[:, None]
        return flat[rows, self.places.clamp(max=flat.shape[1] - 1)]


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

    @property
    def ranks(self) -> Int[Tensor, "batch most"]:
        """The place of each reference among those of its turn, from 0; of padding any number."""
        same = self.turns[:, :, None] == self.turns[:, None, :]
        return (same & self.filled[:, None, :]).tril(-1).sum(2)

    def in_sets(self, unit: str, queries: int) -> QuerySets:
        """Give each turn that has references a set of ``queries`` for units of a type.

        Raises:
            ModelError: A turn has more references than ``queries``.
        """
        self.check_capacity(unit, queries)
        ranks = self.ranks
        first = (ranks == 0) & self.filled
        same = self.turns[:, :, None] == self.turns[:, None, :]
        number = ((same & first[:, None]) * (first.cumsum(1) - 1)[:, None]).sum(2)
        # the one value that is read from a device: how many sets there are
        count = int(first.sum(1).max())
        places = (number * queries + ranks).masked_fill(~self.filled, count * queries)
        return QuerySets(places, count, queries)

    def check_capacity(self, unit: str, queries: int) -> None:
        """Check that a decoder has a query for each reference of a turn.

        Raises:
            ModelError: A turn has more references than ``queries``.
        """
        # the width of the table bounds every turn, and nothing is read from a device for that
        if self.filled.shape[1] <= queries:
            return
        most = int((self.ranks + 1).masked_fill(~self.filled, 0).max())
        if most > queries:
            raise ModelError(
                f"an answer asks for {most} units of type {unit}, their decoder has {queries} queries"
            )


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
