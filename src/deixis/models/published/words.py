"""Rows of a published vocabulary and the corresponding rows of a model."""

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
"""Spellings of markers in the public code of u-LLaVA."""


@dataclass(frozen=True, slots=True)
class Words:
    """Two vocabularies that add tokens to the same base.

    Attributes:
        tokens: Tokens that were added to the published vocabulary, with their rows.
        marker_ids: Rows of the model's markers and of its tokens that begin turns, by name.
        vocabulary: All tokens of the model, if known.
    """

    tokens: Mapping[str, int]
    marker_ids: Mapping[str, int]
    vocabulary: Mapping[str, int] | None = None

    def rows(
        self, published: int, own: int, part: str
    ) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], tuple[str, ...]]:
        """Return published rows, the corresponding rows of the model, and tokens without one.

        Args:
            published: Number of published rows.
            own: Number of the model's rows.
            part: Name of the imported part, for errors.

        Raises:
            CheckpointError: The row of an unnamed token would overwrite a marker or exceeds the
                model's rows.
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
                    "hint: import again with the tokenizer's files beside the weights, and use the "
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
        """Return the model's row of a token that was added to the published vocabulary, or None."""
        marker = SURFACE.get(token, token)
        if marker in self.marker_ids:
            return self.marker_ids[marker]
        if self.vocabulary is not None:
            return self.vocabulary.get(token)
        return None if row in reserved else row
