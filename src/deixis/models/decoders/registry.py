"""Unit types and what decodes them.

To add a unit type: write its decoder in a file of its own, as `UnitDecoder` has it, and give
`BUILDERS` one line. A unit type without decoder is not an error: a model may name any, and its
references come back undecoded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from deixis.errors import GeometryError, ModelError
from deixis.geometry import ImageSize
from deixis.models.decoders.box import BoxDecoder
from deixis.models.decoders.depth import DepthConfig, DepthDecoder
from deixis.models.decoders.interface import Decoded, Features, UnitDecoder
from deixis.models.decoders.keypoints import KeypointConfig, KeypointDecoder
from deixis.models.decoders.location import LocationConfig, LocationDecoder
from deixis.models.decoders.mask import MaskDecoder
from deixis.models.decoders.plain import BoxUnits, MaskUnits
from deixis.models.decoders.prompted import build_prompted
from deixis.models.decoders.trunk import DecoderConfig
from deixis.models.references import LatentReferences
from deixis.structures import Problem, Reference, Unit, UnitType

AnyDecoder = UnitDecoder[Any, Any]


@dataclass(frozen=True, slots=True)
class Widths:
    """What decoders are given: channels of hidden states, and of the map masks are cut from."""

    language: int
    pixels: int


Builder = Callable[[Mapping[str, Any], Widths], AnyDecoder]

BUILDERS: dict[str, Builder] = {
    UnitType.BOX: lambda c, w: BoxUnits(BoxDecoder(DecoderConfig(**c), w.language)),
    UnitType.MASK: lambda c, w: MaskUnits(MaskDecoder(DecoderConfig(**c), w.language, w.pixels)),
    UnitType.KEYPOINT: lambda c, w: KeypointDecoder(KeypointConfig(**c), w.language),
    UnitType.DEPTH: lambda c, w: DepthDecoder(DepthConfig(**c), w.language, w.pixels),
    "segmenter": lambda c, w: build_prompted(c, w.language),
    "location": lambda c, w: LocationDecoder(LocationConfig(**c), w.language),
}
"""How each decoder is made from its configuration.

``location`` is another one for boxes (u-LLaVA's), ``segmenter`` another one for masks (SAM).
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


@dataclass(frozen=True, slots=True)
class UnitDecoders:
    """The decoders of one model, by unit type; none of them twice.

    Raises:
        ModelError: Two decoders have one unit type.
    """

    decoders: tuple[AnyDecoder, ...]

    def __post_init__(self) -> None:
        names = [decoder.unit for decoder in self.decoders]
        if len(set(names)) < len(names):
            raise ModelError(f"unit decoders: expected each unit type once, got {names}")

    @property
    def units(self) -> tuple[str, ...]:
        """The unit types that can be decoded."""
        return tuple(decoder.unit for decoder in self.decoders)

    def decode(
        self,
        references: LatentReferences,
        features: Features,
        *,
        wanted: Mapping[str, Bool[Tensor, "b q"]] | None = None,
    ) -> dict[str, Decoded]:
        """Run every decoder, by unit type.

        With ``wanted``, a decoder is given only the references that want its unit (REF-VLM IV-C,
        "Latent Embeddings Router"); they keep their positions, so row and position mean the same
        everywhere, and its truth has an entry for each of them. A decoder that nobody wants is
        given none, and still takes part in training.
        """
        decoded = {}
        for decoder in self.decoders:
            mine = references
            if wanted is not None:
                none = torch.zeros_like(references.filled)
                chosen = wanted.get(decoder.unit, none) & references.filled
                mine = replace(references, filled=chosen)
            decoded[decoder.unit] = decoder(mine, features)
        return decoded

    def reference(
        self,
        decoded: Mapping[str, Decoded],
        unit_types: Sequence[str],
        row: int,
        position: int,
        size: ImageSize,
    ) -> tuple[Reference, tuple[Problem, ...]]:
        """The units of one reference on its image of ``size``, in source pixels, and its score.

        A unit is None where nothing decodes its type, and where what was decoded is not sound,
        which is listed as a problem. The score is the mean chance of being right of the units
        that have a decoder; None where none has.
        """
        by_unit = {decoder.unit: decoder for decoder in self.decoders}
        units: list[Unit | None] = []
        chances: list[float] = []
        problems: list[Problem] = []
        for name in unit_types:
            decoder = by_unit.get(name)
            if decoder is None or name not in decoded:
                units.append(None)
                continue
            chances.append(float(decoded[name].quality[row, position].detach().double().sigmoid()))
            try:
                units.append(decoder.to_unit(decoded[name], row, position, size))
            except GeometryError as error:
                units.append(None)
                problems.append(Problem("unit_unsound", f"reference {position}: {error}"))
        score = sum(chances) / len(chances) if chances else None
        return Reference(tuple(units), score), tuple(problems)
