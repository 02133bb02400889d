"""Stage 1 of TAMP (appendix F): align what the connector finds with words and boxes."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from deixis.models.contrastive import SimilarityScale, contrastive_loss
from deixis.models.decoders.layers import MultiLayerPerceptron
from deixis.models.losses import paired_iou, to_corners
from deixis.models.regions.connector import RegionConnector
from deixis.models.regions.inputs import RegionContext, RegionInputs
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


class RegionAlignment(nn.Module):
    """The heads and losses that train a connector by itself; dropped after stage 1.

    Args:
        width: Width of the connector's query space.
        target: What region features are contrasted with: the ``description`` of each region,
            for boxes too, which have no text in their query; or, as equation 8 is printed,
            the text ``query``, which only described regions have.
        detach: Whether the text side stays as it is. A described region's target is its own query,
            which both could otherwise agree on without looking.
        alpha: Share of smooth L1 in the location loss.
    """

    def __init__(
        self,
        width: int,
        *,
        target: ContrastTarget = "description",
        detach: bool = False,
        alpha: float = 0.7,
    ) -> None:
        super().__init__()
        self.target = target
        self.detach = detach
        self.alpha = alpha
        self.box_head = BoxHead(width)
        self.scale = SimilarityScale()

    def forward(
        self,
        connector: RegionConnector,
        context: RegionContext,
        regions: RegionInputs,
        boxes: Float[Tensor, "r 4"],
        description_ids: Int[Tensor, "r t"],
        description_mask: Bool[Tensor, "r t"],
    ) -> AlignmentLosses:
        """Give the losses of a batch of regions, described, drawn or both kinds.

        ``boxes`` are the truth, x1 y1 x2 y2 as fractions of the canvas. A region without a
        description, or that is not described in its own query, is left out where that is the
        target. The location loss is that of described regions: the others were given their box.
        """
        features = connector.features(context, regions)
        described = (regions.types == RegionType.TEXT.number).nonzero()[:, 0]
        found = self.box_head(features[described])
        location = location_loss(found, boxes[described], alpha=self.alpha)
        if self.target == "query":
            paired = described
            texts = connector.queries(regions.select(described)).mean(1)
        else:
            paired = description_mask.any(1).nonzero()[:, 0]
            texts = features.new_zeros(0, features.shape[2])
            if len(paired):
                texts = connector.describe(description_ids[paired], description_mask[paired])
        if self.detach:
            texts = texts.detach()
        semantic = contrastive_loss(features[paired].mean(1), texts, self.scale())
        return AlignmentLosses(location.sum() / max(len(location), 1), semantic)
