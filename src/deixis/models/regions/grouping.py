"""Regions of a batch lined up by image, so that one product serves them all."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ImageGroups:
    """Where each region stands in a table with a row for each image that has any.

    ``images`` are those images, in order; region ``i`` is in row ``row[i]``, column ``column[i]``
    of a table that is ``columns`` wide. A batch without regions has no rows.
    """

    images: Int[Tensor, " i"]
    row: Int[Tensor, " r"]
    column: Int[Tensor, " r"]
    columns: int

    def line_up(self, values: Float[Tensor, "r ..."]) -> Float[Tensor, "i columns ..."]:
        """Put each region's values in its place; places that no region has are zero."""
        table = values.new_zeros(len(self.images), self.columns, *values.shape[1:])
        return table.index_put((self.row, self.column), values)

    def take_back(self, table: Float[Tensor, "i columns ..."]) -> Float[Tensor, "r ..."]:
        """Give the values of each region, in the order of the regions."""
        return table[self.row, self.column]


def group_by_image(rows: Int[Tensor, " r"]) -> ImageGroups:
    """Line regions up by the image that each lies on."""
    images, row, counts = rows.unique(return_inverse=True, return_counts=True)
    order = row.argsort(stable=True)
    place = torch.arange(len(rows), device=rows.device)
    column = torch.empty_like(row)
    column[order] = place - (counts.cumsum(0) - counts)[row[order]]
    return ImageGroups(images, row, column, int(counts.max()) if len(rows) else 0)
