"""The reference router: hidden states at `<REF>` become latent references (REF-VLM IV-C)."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from deixis.errors import ModelError

Offset = Literal["at", "prev"]
"""Offset of the latent reference: the hidden state ``at`` the reference's token, or ``prev``.

REF-VLM uses the state at the token. The public code of u-LLaVA, like LISA's, uses the state before,
which predicted the token.
"""


def read_offset(name: str) -> Offset:
    """Return an offset by name.

    Raises:
        ModelError: The offset is unknown.
    """
    match name:
        case "at" | "prev":
            return name
        case _:
            raise ModelError(f"offset: expected one of {get_args(Offset)}, got {name!r}")


@dataclass(frozen=True, slots=True)
class QuerySets:
    """Positions of references in sets of ``queries``, one set for each turn with references.

    ``places`` numbers the queries of all ``count`` sets of a row consecutively; padding has the
    place after the last query.
    """

    places: Int[Tensor, "batch most"]
    count: int
    queries: int

    def line_up(
        self, states: Float[Tensor, "batch most width"]
    ) -> Float[Tensor, "batch sets queries width"]:
        """Scatter the states of references into their sets; other queries are zero."""
        total = self.count * self.queries
        rows, _, width = states.shape
        where = self.places[..., None].expand(-1, -1, width)
        lined = states.new_zeros(rows, total + 1, width).scatter(1, where, states)
        return lined[:, :total].unflatten(1, (self.count, self.queries))

    def take_back(
        self, states: Float[Tensor, "batch sets queries *rest"]
    ) -> Float[Tensor, "batch most *rest"]:
        """Gather the state of each reference's query; padding gets an arbitrary one."""
        flat = states.flatten(1, 2)
        rows = torch.arange(len(flat), device=flat.device)[:, None]
        return flat[rows, self.places.clamp(max=flat.shape[1] - 1)]


@dataclass(frozen=True, slots=True)
class LatentReferences:
    """Hidden states of references, padded to the largest number in a row.

    The true entries of ``filled`` in row-major order are the references in the order of the token
    sequences: reference *k* of the batch is the *k*-th true entry. ``turns`` is the turn of each
    reference; references of different turns do not attend to each other.
    """

    states: Float[Tensor, "batch most width"]
    filled: Bool[Tensor, "batch most"]
    turns: Int[Tensor, "batch most"]

    def __len__(self) -> int:
        return int(self.filled.sum())

    @property
    def ranks(self) -> Int[Tensor, "batch most"]:
        """Index of each reference within its turn, from 0; arbitrary for padding."""
        same = self.turns[:, :, None] == self.turns[:, None, :]
        return (same & self.filled[:, None, :]).tril(-1).sum(2)

    def in_sets(self, unit: str, queries: int) -> QuerySets:
        """Assign the references of each turn to a set of ``queries`` for units of a type.

        Raises:
            ModelError: A turn has more references than ``queries``.
        """
        self.check_capacity(unit, queries)
        ranks = self.ranks
        first = (ranks == 0) & self.filled
        same = self.turns[:, :, None] == self.turns[:, None, :]
        number = ((same & first[:, None]) * (first.cumsum(1) - 1)[:, None]).sum(2)
        # the only synchronisation with the device: the number of sets
        count = int(first.sum(1).max())
        places = (number * queries + ranks).masked_fill(~self.filled, count * queries)
        return QuerySets(places, count, queries)

    def check_capacity(self, unit: str, queries: int) -> None:
        """Check that a decoder has enough queries for the references of each turn.

        Raises:
            ModelError: A turn has more references than ``queries``.
        """
        # the padded width bounds the number per turn without reading from the device
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
    """Select references and pack them to the left (REF-VLM IV-C, "Latent Embeddings Router").

    Returns:
        The selected references, and the new position of each reference in its row, -1 if not
        selected.
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
    """Gather the hidden state of every reference token, without a limit on their number.

    With ``offset`` ``prev``, no row may start with a reference token.
    """
    counts = is_reference.sum(1)
    most = max(int(counts.max()), 1)
    filled = torch.arange(most, device=hidden.device)[None] < counts[:, None]
    states = hidden.new_zeros(hidden.shape[0], most, hidden.shape[2])
    read = is_reference if offset == "at" else functional.pad(is_reference[:, 1:], (0, 1))
    states = states.masked_scatter(filled[..., None], hidden[read])
    owner = turns.new_zeros(filled.shape).masked_scatter(filled, turns[is_reference])
    return LatentReferences(states, filled, owner)
