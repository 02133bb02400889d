"""Unit types and what decodes them.

To add a unit type: write its decoder in a file of its own, as `UnitDecoder` and `ReadsUnits` have
it, and give `BUILDERS` one line. A unit type without decoder is not an error: a model may name any, and its
references come back undecoded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deixis.errors import ModelError
from deixis.models.decoders.depth import DepthConfig, DepthDecoder
from deixis.models.decoders.interface import UnitDecoder
from deixis.models.decoders.keypoints import KeypointConfig, KeypointDecoder
from deixis.models.decoders.location import LocationConfig, LocationDecoder
from deixis.models.decoders.prompted import build_prompted
from deixis.structures import UnitType

AnyDecoder = UnitDecoder[Any, Any]


@dataclass(frozen=True, slots=True)
class Widths:
    """What decoders are given: channels of hidden states, and of the map masks are cut from.

    ``pyramid`` are those of the vision encoder's own maps, from fine to coarse.
    """

    language: int
    pixels: int
    pyramid: tuple[int, ...] = ()


Builder = Callable[[Mapping[str, Any], Widths], AnyDecoder]

BUILDERS: dict[str, Builder] = {
    UnitType.KEYPOINT: lambda c, w: KeypointDecoder(KeypointConfig(**c), w.language, w.pyramid),
    UnitType.DEPTH: lambda c, w: DepthDecoder(DepthConfig(**c), w.language, w.pixels),
    "segmenter": lambda c, w: build_prompted(c, w.language),
    "location": lambda c, w: LocationDecoder(LocationConfig(**c), w.language),
}
"""How each decoder is made from its configuration.

Those of boxes and masks are the model's own (``box_decoder``, ``mask_decoder``); ``location`` is another
one for boxes (u-LLaVA's), ``segmenter`` another one for masks (SAM). A type that is none of ours has its name here.
"""


def build_decoder(name: str, config: Mapping[str, Any], widths: Widths) -> AnyDecoder:
    """Make the decoder of a unit type from plain data.

    Raises:
        ModelError: There is no such decoder, or the configuration has a field that it lacks.
    """
    if name not in BUILDERS:
        raise ModelError(f"unit decoder {name!r}: expected one of {sorted(BUILDERS)}")
    try:
        return BUILDERS[name](config, widths)
    except TypeError as error:
        raise ModelError(f"unit decoder {name!r}: {error}") from error
