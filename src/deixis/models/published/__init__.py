"""Import of published weights of other projects as parts of a deixis model.

`import_weights` writes one file for each part, with the names of that part's state:

| part | content |
|---|---|
| ``language_model`` | ``LlamaForCausalLM`` of transformers |
| ``vision_encoder`` | `deixis.models.vision`'s encoder with CLIP's vision transformer as ``model`` |
| ``projector`` | `deixis.models.projector.Projector` |
| ``language_adapters``, ``vision_adapters`` | `deixis.models.adapters` of these two parts |
| ``location_decoder`` | u-LLaVA's box decoder |
| ``prompted_decoder`` | a projector and Segment Anything as ``segmenter`` |
| ``region_encoder`` | REF-VLM's mask-guided aggregation |
| ``box_decoder``, ``mask_decoder``, ``pose_decoder`` | REF-VLM's, with the design ``detr`` |
| ``pixel_decoder`` | MaskFormer's, for REF-VLM's mask decoder |

The tables of names are `PINK`, `REFVLM` and `ULLAVA`.
"""

from deixis.models.published.importing import (
    SYSTEMS,
    Activation,
    ImportReport,
    Mapped,
    import_weights,
    match_keys,
    read_activation,
)
from deixis.models.published.loading import (
    ImportedReport,
    LoadedPart,
    load_imported,
    read_report,
)
from deixis.models.published.pink import PINK
from deixis.models.published.refvlm import REFVLM
from deixis.models.published.rows import Row, Table
from deixis.models.published.ullava import ULLAVA

__all__ = [
    "PINK",
    "REFVLM",
    "SYSTEMS",
    "ULLAVA",
    "Activation",
    "ImportReport",
    "ImportedReport",
    "LoadedPart",
    "Mapped",
    "Row",
    "Table",
    "import_weights",
    "load_imported",
    "match_keys",
    "read_activation",
    "read_report",
]
