"""Unit decoders: latent references and features become boxes and masks."""

from deixis.models.decoders.box import BoxDecoder, BoxPredictions
from deixis.models.decoders.detr import DetrBoxDecoder, DetrMaskDecoder
from deixis.models.decoders.mask import MaskDecoder, MaskPredictions
from deixis.models.decoders.pixel import PixelDecoder, PixelFeatures
from deixis.models.decoders.proposals import ProposalHead, Proposals, mask_logits
from deixis.models.decoders.trunk import DecoderConfig

__all__ = [
    "BoxDecoder",
    "BoxPredictions",
    "DecoderConfig",
    "DetrBoxDecoder",
    "DetrMaskDecoder",
    "MaskDecoder",
    "MaskPredictions",
    "PixelDecoder",
    "PixelFeatures",
    "ProposalHead",
    "Proposals",
    "mask_logits",
]
