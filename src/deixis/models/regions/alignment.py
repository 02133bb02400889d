"""Stage 1 of TAMP (appendix F): align the connector's features with words and boxes."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from deixis.batch import Regions, RegionTruth
from deixis.errors import ModelError
from deixis.models.decoders.layers import MultiLayerPerceptron
from deixis.models.losses.boxes import paired_iou, to_corners
from deixis.models.losses.contrastive import SimilarityScale, contrastive_loss, mean_over_ranks
from deixis.models.regions.choices import check_fields, values_of
from deixis.models.regions.connector import RegionConnector
from deixis.models.regions.inputs import RegionContext
from deixis.structures import RegionType

ContrastTarget = Literal["description", "query"]


@dataclass(frozen=True, slots=True)
class AlignmentLosses:
    """Losses of equations 4 and 7, each a mean over the regions that have it, or zero."""

    location: Float[Tensor, ""]
    semantic: Float[Tensor, ""]

    @property
    def total(self) -> Float[Tensor, ""]:
        """The sum; for regions given as boxes only the semantic loss is not zero."""
        return self.location + self.semantic


def location_loss(
    predicted: Float[Tensor, "n 4"], target: Float[Tensor, "n 4"], *, alpha: float = 0.7
) -> Float[Tensor, " n"]:
    """Return alpha · smooth L1 + (1 - alpha) · (1 - generalized IoU) per box (equations 4 to 6).

    Boxes are x1 y1 x2 y2 in [0, 1] of the canvas; smooth L1 is a mean over the four numbers.
    """
    smooth = functional.smooth_l1_loss(predicted, target, reduction="none", beta=1.0).mean(-1)
    return alpha * smooth + (1 - alpha) * (1 - paired_iou(predicted, target)[1])


class BoxHead(nn.Module):
    """Predict a box from region features, in training only; the paper does not state its shape.

    Centre and size are sigmoids, so that corners are always in order.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.box = MultiLayerPerceptron(width, 4)

    def forward(self, features: Float[Tensor, "r k w"]) -> Float[Tensor, "r 4"]:
        """Return a box x1 y1 x2 y2 in [0, 1] of the canvas for each region."""
        return to_corners(self.box(features.mean(1)).float().sigmoid())


@dataclass(frozen=True, slots=True)
class AlignmentConfig:
    """Options of the alignment of a connector.

    Args:
        target: The text that region features are contrasted with: the ``description`` of each
            region, also for boxes, whose query has no text; or, as equation 8 is printed, the text
            ``query``, which only described regions have.
        detach: Whether text features get no gradient. The target of a described region is its own
            query; both could otherwise agree without using the image.
        alpha: Share of smooth L1 in the location loss.
        rows_at_once: Number of regions whose similarities are in memory at a time, for batches with
            too large a matrix; None for all.
    """

    target: ContrastTarget = "description"
    detach: bool = False
    alpha: float = 0.7
    rows_at_once: int | None = None

    def __post_init__(self) -> None:
        check_fields(AlignmentConfig, values_of(self))
        if not 0 <= self.alpha <= 1:
            raise ModelError(f"alpha: expected 0 to 1, got {self.alpha}")


@dataclass(frozen=True, slots=True)
class AlignmentPairs:
    """Regions that are contrasted with a text, regions with a location loss, and their boxes."""

    paired: Bool[Tensor, " r"]
    sought: Bool[Tensor, " r"]
    boxes: Float[Tensor, "r 4"]


class RegionAlignment(nn.Module):
    """Heads and losses that train a connector alone; they are dropped after stage 1.

    ``width`` is that of the connector's query space.
    """

    def __init__(self, width: int, config: AlignmentConfig) -> None:
        super().__init__()
        self.config = config
        self.box_head = BoxHead(width)
        self.scale = SimilarityScale()

    def forward(
        self,
        connector: RegionConnector,
        context: RegionContext,
        regions: Regions,
        truth: RegionTruth,
    ) -> AlignmentLosses:
        """Return the losses of a batch of regions, described, drawn or both.

        With target ``description``, regions without a description have no semantic loss; with
        target ``query``, regions that are not described have none. Only described regions have a
        location loss, since drawn ones were given their box.
        """
        features = connector.features(context, regions)
        texts = self.texts(connector, regions, truth)
        return self.losses(features, texts, self.pairs(regions, truth))

    def texts(
        self, connector: RegionConnector, regions: Regions, truth: RegionTruth
    ) -> Float[Tensor, "m w"]:
        """Return the texts that paired regions are contrasted with, one vector each."""
        paired = self.pairs(regions, truth).paired.nonzero()[:, 0]
        if self.config.target == "query":
            texts = connector.queries(regions.select(paired)).mean(1)
        elif len(paired):
            texts = connector.describe(
                truth.description_ids[paired], truth.description_mask[paired]
            )
        else:
            texts = truth.boxes.new_zeros(0, connector.config.width)
        return texts.detach() if self.config.detach else texts

    def pairs(self, regions: Regions, truth: RegionTruth) -> AlignmentPairs:
        """Return which regions have which loss."""
        described = regions.types == RegionType.TEXT.number
        paired = described if self.config.target == "query" else truth.description_mask.any(1)
        return AlignmentPairs(paired, described & truth.known, truth.boxes)

    def losses(
        self,
        features: Float[Tensor, "r k w"],
        texts: Float[Tensor, "m w"],
        pairs: AlignmentPairs,
    ) -> AlignmentLosses:
        """Return the losses of all regions at once, however they were encoded."""
        found = self.box_head(features[pairs.sought])
        location = location_loss(found, pairs.boxes[pairs.sought], alpha=self.config.alpha)
        pooled = features[pairs.paired].mean(1)
        semantic = contrastive_loss(
            pooled, texts, self.scale(), rows_at_once=self.config.rows_at_once
        )
        return AlignmentLosses(mean_over_ranks(location), semantic)
