"""Region encoders: regions and descriptions become tokens of the language model."""

from deixis.models.regions.aggregation import Aggregation, MaskGuidedAggregation
from deixis.models.regions.alignment import RegionAlignment
from deixis.models.regions.connector import ConnectorConfig, RegionConnector
from deixis.models.regions.encoders import (
    CoordinateRegionConfig,
    RegionEncoders,
    RegionEncodersConfig,
    build_region_encoder,
)
from deixis.models.regions.inputs import RegionContext, RegionTokens
from deixis.models.regions.masked import MASK_REGIONS, MaskRegionConfig, RegionEncoder

__all__ = [
    "MASK_REGIONS",
    "Aggregation",
    "ConnectorConfig",
    "CoordinateRegionConfig",
    "MaskGuidedAggregation",
    "MaskRegionConfig",
    "RegionAlignment",
    "RegionConnector",
    "RegionContext",
    "RegionEncoder",
    "RegionEncoders",
    "RegionEncodersConfig",
    "RegionTokens",
    "build_region_encoder",
]
