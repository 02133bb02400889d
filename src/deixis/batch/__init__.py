"""The input of the model, built by the processor: padded rows, regions, truth and instances."""

from deixis.batch.batch import Batch, Instances
from deixis.batch.references import AskedUnits, References, TruthReader, UnitTruth
from deixis.batch.regions import Regions, RegionTruth

__all__ = [
    "AskedUnits",
    "Batch",
    "Instances",
    "References",
    "RegionTruth",
    "Regions",
    "TruthReader",
    "UnitTruth",
]
