"""Region encoders: what a person points at becomes tokens."""

from deixis.models.regions.aggregation import MaskGuidedAggregation

__all__ = ["MaskGuidedAggregation"]
