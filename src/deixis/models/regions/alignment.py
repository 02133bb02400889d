"""Stage 1 of TAMP (appendix F): align what the connector finds with words and boxes."""

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
    """Losses of equations 4 and 7, each a mean over the regions that have it, zero for none."""

    location: Float[Tensor, ""]
    semantic: Float[Tensor, ""]

    @property
    def total(self) -> Float[Tensor, ""]:
        """Their sum: of regions given as boxes the second, of described ones both."""
        return self.location + self.semantic


def location_loss(
    predicted: Float[Tensor, "n 4"], target: Float[Tensor, "n 4"], *, alpha: float = 0.7
) -> Float[Tensor, " n"]:
    """Share alpha of smooth L1, the rest generalized IoU, box by box (equations 4 to 6).

    That is alpha · smooth L1 + (1 - alpha) · (1 - generalized IoU). Boxes are x1 y1 x2 y2 as
    fractions of the canvas; smooth L1 is a mean over the four numbers.
    """
    smooth = functional.smooth_l1_loss(predicted, target, reduction="none", beta=1.0).mean(-1)
    return alpha * smooth + (1 - alpha) * (1 - paired_iou(predicted, target)[1])


class BoxHead(nn.Module):
    """A box from region features, for training alone; the paper leaves its shape open.

    Centre and size come from sigmoids, so that corners are never in the wrong order.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.box = MultiLayerPerceptron(width, 4)

    def forward(self, features: Float[Tensor, "r k w"]) -> Float[Tensor, "r 4"]:
        """Give a box x1 y1 x2 y2 as fractions of the canvas for each region."""
        return to_corners(self.box(features.mean(1)).float().sigmoid())


@dataclass(frozen=True, slots=True)
class AlignmentConfig:
    """How a connector is aligned.

    Args:
        target: What region features are contrasted with: the ``description`` of each region,
            for boxes too, which have no text in their query; or, as equation 8 is printed,
            the text ``query``, which only described regions have.
        detach: Whether the text side stays as it is. A described region's target is its own query,
            which both could otherwise agree on without looking.
        alpha: Share of smooth L1 in the location loss.
        rows_at_once: Similarities of this many regions are held at a time, for batches whose
            matrix is too large; None for all.
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
    """Which regions are contrasted with a text, and which are ``sought`` in ``boxes``."""

    paired: Bool[Tensor, " r"]
    sought: Bool[Tensor, " r"]
    boxes: Float[Tensor, "r 4"]


class RegionAlignment(nn.Module):
    """The heads and losses that train a connector by itself; dropped after stage 1.

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
        """Give the losses of a batch of regions, described, drawn or both kinds.

        A region without a description, or that is not described in its own query, is left out
        where that is the target. The location loss is that of described regions: the others were
        given their box.
        """
        features = connector.features(context, regions)
        texts = self.texts(connector, regions, truth)
        return self.losses(features, texts, self.pairs(regions, truth))

    def texts(
        self, connector: RegionConnector, regions: Regions, truth: RegionTruth
    ) -> Float[Tensor, "m w"]:
        """What the paired regions are contrasted with, one vector each."""
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
        """Which regions have which loss."""
        described = regions.types == RegionType.TEXT.number
        paired = described if self.config.target == "query" else truth.description_mask.any(1)
        return AlignmentPairs(paired, described & truth.known, truth.boxes)

    def losses(
        self,
        features: Float[Tensor, "r k w"],
        texts: Float[Tensor, "m w"],
        pairs: AlignmentPairs,
    ) -> AlignmentLosses:
        """The losses of all regions at once, whatever pieces they were encoded in."""
        found = self.box_head(features[pairs.sought])
        location = location_loss(found, pairs.boxes[pairs.sought], alpha=self.config.alpha)
        pooled = features[pairs.paired].mean(1)
        semantic = contrastive_loss(
            pooled, texts, self.scale(), rows_at_once=self.config.rows_at_once
        )
        return AlignmentLosses(mean_over_ranks(location), semantic)
