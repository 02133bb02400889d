"""Every model part of Pink, TAMP, u-LLaVA and REF-VLM as deixis has it, for ``docs/parts.md``."""

from deixis.models.catalogue.entry import CatalogueEntry, Size
from deixis.models.catalogue.parts import PARTS
from deixis.models.catalogue.use import Use, uses

__all__ = ["PARTS", "CatalogueEntry", "Size", "Use", "uses"]
