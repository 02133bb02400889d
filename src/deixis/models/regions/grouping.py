"""Regions of a batch grouped by image, so that one matrix product serves all of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ImageGroups:
    """Places of regions in a table with a row for each image that has regions.

    ``images`` are the indices of these images, in order. Region ``i`` is in row ``row[i]`` and
    column ``column[i]`` of a table with ``columns`` columns. A batch without regions has no rows.
    """

    images: Int[Tensor, " i"]
    row: Int[Tensor, " r"]
    column: Int[Tensor, " r"]
    columns: int

    def line_up(self, values: Float[Tensor, "r ..."]) -> Float[Tensor, "i columns ..."]:
        """Scatter the values of each region into the table; empty places are zero."""
        table = values.new_zeros(len(self.images), self.columns, *values.shape[1:])
        return table.index_put((self.row, self.column), values)

    def take_back(self, table: Float[Tensor, "i columns ..."]) -> Float[Tensor, "r ..."]:
        """Gather the values of each region, in the order of the regions."""
        return table[self.row, self.column]


def group_by_image(rows: Int[Tensor, " r"]) -> ImageGroups:
    """Group regions by ``rows``, the image of each."""
    images, row, counts = rows.unique(return_inverse=True, return_counts=True)
    order = row.argsort(stable=True)
    place = torch.arange(len(rows), device=rows.device)
    column = torch.empty_like(row)
    column[order] = place - (counts.cumsum(0) - counts)[row[order]]
    return ImageGroups(images, row, column, int(counts.max()) if len(rows) else 0)
