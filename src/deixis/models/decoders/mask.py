"""Masks from latent references, in the way of MaskFormer (REF-VLM III-D)."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from deixis.models.decoders.layers import Anchors, MultiLayerPerceptron
from deixis.models.decoders.pixel import PixelFeatures
from deixis.models.decoders.trunk import DecoderConfig, ReferenceTrunk
from deixis.models.positions import cell_centres
from deixis.models.references import LatentReferences


@dataclass(frozen=True, slots=True)
class MaskPredictions:
    """Mask logits at the resolution of the pixel features.

    ``quality`` is the logit of the expected IoU with the truth.
    """

    logits: Float[Tensor, "b q h w"]
    quality: Float[Tensor, "b q"]
    anchors: tuple[Anchors, ...]
    anchor_weight: float = 1.0


class MaskDecoder(nn.Module):
    """One mask and one quality for each reference.

    A mask is the product of the reference's embedding with every pixel's. Anchored, it also
    carries a learned bell around its anchor, which keeps look-alikes elsewhere out of it.
    """

    def __init__(self, config: DecoderConfig, language_width: int, pixel_width: int) -> None:
        super().__init__()
        self.config = config
        self.trunk = ReferenceTrunk(config, language_width)
        self.norm = nn.LayerNorm(config.width)
        self.embedding = MultiLayerPerceptron(config.width, pixel_width + 1)
        self.bell = nn.Linear(config.width, 4) if config.anchored else None
        self.quality = MultiLayerPerceptron(config.width, 1, layers=2)

    def forward(self, references: LatentReferences, features: PixelFeatures) -> MaskPredictions:
        """Decode every reference; padding gets masks that nobody reads."""
        refined = self.trunk(references, features.cells)
        state = self.norm(refined.states[-1])
        embedding = self.embedding(state)
        height, width = features.pixels.shape[-2:]
        flat = embedding[..., :-1] @ features.pixels.flatten(2)
        logits = flat.float() + embedding[..., -1:].float()
        if self.bell is not None:
            shape = self.bell(state).float()
            centre = refined.anchors[-1].centres + 0.25 * shape[..., :2].tanh()
            # exp of the negated size: a bell of at least 1/60 and at most about the whole canvas
            sharpness = (2.0 + shape[..., 2:].clamp(-3.0, 2.0)).exp()
            place = cell_centres(height, device=logits.device)
            offset_x = (place[:, 0] - centre[..., 0:1]) * sharpness[..., 0:1]
            offset_y = (place[:, 1] - centre[..., 1:2]) * sharpness[..., 1:2]
            logits = logits - (offset_x.square() + offset_y.square()).clamp(max=30.0)
        quality = self.quality(state.detach()).squeeze(-1).float()
        logits = logits.unflatten(2, (height, width))
        return MaskPredictions(logits, quality, refined.anchors, self.config.anchor_weight)
