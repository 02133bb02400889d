"""Rows of a published vocabulary: which of a model's rows each one is."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from deixis.errors import CheckpointError
from deixis.notation import Tokens

SURFACE: Mapping[str, str] = {
    text: marker.value for marker, text in Tokens("code").spelling.items()
}
"""Markers by how u-LLaVA's public code spells them."""


@dataclass(frozen=True, slots=True)
class Words:
    """What is known of two vocabularies, one of which was made by adding tokens to the other's base.

    Attributes:
        tokens: Tokens that were added to the published one, with their rows.
        marker_ids: The model's markers by their values, and its tokens that begin turns.
        vocabulary: All of the model's tokens, where they are known.
    """

    tokens: Mapping[str, int]
    marker_ids: Mapping[str, int]
    vocabulary: Mapping[str, int] | None = None

    def rows(
        self, published: int, own: int, part: str
    ) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], tuple[str, ...]]:
        """Give published rows, the model's rows that they are, and tokens that have none there.

        Args:
            published: How many rows there are.
            own: How many the model has.
            part: What they are of, for errors.

        Raises:
            CheckpointError: A row of a token without a name would take the place of a marker, or
                lies past the model's rows.
        """
        named = {number: token for token, number in self.tokens.items() if number < published}
        reserved = {int(number): text for text, number in self.marker_ids.items()}
        pairs: dict[int, int] = {}
        lost = []
        for row in range(published):
            token = named.get(row)
            place = row if token is None else self._place(token, row, reserved)
            if place is None and token is not None:
                lost.append(token)
            elif token is None and row in reserved:
                raise CheckpointError(
                    f"imported part {part}: row {row} of {published} of its vocabulary is the marker "
                    f"{reserved[row]} here\n"
                    "hint: import again with the tokenizer's files beside the weights, and take the "
                    "same language model's tokenizer"
                )
            elif place is not None and place >= own:
                raise CheckpointError(
                    f"imported part {part}: {published} rows of a vocabulary, the model has {own}"
                )
            elif place is not None:
                pairs[place] = row
        given = torch.tensor(sorted(pairs), dtype=torch.long)
        taken = torch.tensor([pairs[place] for place in given.tolist()], dtype=torch.long)
        return taken, given, tuple(lost)

    def _place(self, token: str, row: int, reserved: Mapping[int, str]) -> int | None:
        """The model's row of a token that was added to the published vocabulary."""
        marker = SURFACE.get(token, token)
        if marker in self.marker_ids:
            return self.marker_ids[marker]
        if self.vocabulary is not None:
            return self.vocabulary.get(token)
        return None if row in reserved else row
