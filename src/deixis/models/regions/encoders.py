"""Several region encoders in one model, selected by the type of region."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor, nn

from deixis.batch import Regions
from deixis.errors import ModelError
from deixis.models.regions.aggregation import Aggregation
from deixis.models.regions.choices import build_config, check_count, check_fields, values_of
from deixis.models.regions.connector import ConnectorConfig, RegionConnector
from deixis.models.regions.inputs import RegionContext, RegionTokens
from deixis.models.regions.masked import MaskRegionConfig, RegionEncoder
from deixis.notation import RegionForm
from deixis.structures import RegionType


@dataclass(frozen=True, slots=True)
class CoordinateRegionConfig:
    """Regions that are spelled out in the text as numbers (Pink; see `Coordinates.write_region`).

    Args:
        decimals: Number of decimals.
        marks: Whether ``<loc>`` and ``</loc>`` enclose the numbers (TAMP).
    """

    decimals: int = 3
    marks: bool = False

    def __post_init__(self) -> None:
        check_fields(CoordinateRegionConfig, values_of(self))
        check_count("decimals", self.decimals)


RegionEncoderConfig = MaskRegionConfig | ConnectorConfig | CoordinateRegionConfig

KINDS: Mapping[str, type[RegionEncoderConfig]] = MappingProxyType(
    {
        "mask": MaskRegionConfig,
        "connector": ConnectorConfig,
        "coordinates": CoordinateRegionConfig,
    }
)
"""Configuration classes by the ``kind`` of region encoder in JSON."""

_DRAWN = tuple(kind for kind in RegionType if kind is not RegionType.TEXT)


@dataclass(frozen=True, slots=True)
class RegionEncodersConfig:
    """Region encoders by name, and the name of the encoder for each type of region.

    The model takes no regions of a type without a route. The default has one mask encoder for all
    drawn regions.

    Raises:
        ModelError: A route has an unknown type or encoder, or its encoder does not take the type.
    """

    encoders: dict[str, RegionEncoderConfig] = field(
        default_factory=lambda: {"mask": MaskRegionConfig()}
    )
    routes: dict[str, str] = field(default_factory=lambda: {kind.value: "mask" for kind in _DRAWN})

    def __post_init__(self) -> None:
        types = [kind.value for kind in RegionType]
        for kind, name in self.routes.items():
            if kind not in types:
                raise ModelError(f"route from region type {kind!r}: expected one of {types}")
            if name not in self.encoders:
                raise ModelError(
                    f"route of {kind} to {name!r}: expected one of {list(self.encoders)}"
                )
            config = self.encoders[name]
            reads = isinstance(config, ConnectorConfig) and config.text_encoder is not None
            if kind == RegionType.TEXT and not reads:
                raise ModelError(
                    f"route of text to {name!r}: expected a connector with a text_encoder"
                )

    @property
    def forms(self) -> dict[str, RegionForm]:
        """How regions of each routed type appear in a question."""
        return {kind: _form(self.encoders[name]) for kind, name in self.routes.items()}

    def to_json(self) -> dict[str, object]:
        """Return the configuration as data for JSON."""
        kinds = {kind: name for name, kind in KINDS.items()}
        encoders = {
            name: {"kind": kinds[type(config)], **asdict(config)}
            for name, config in self.encoders.items()
        }
        return {"encoders": encoders, "routes": dict(self.routes)}

    @classmethod
    def from_json(cls, stored: Mapping[str, object]) -> "RegionEncodersConfig":
        """Read the output of `to_json`; missing fields have their defaults.

        Raises:
            ModelError: The data is not such a configuration.
        """
        values = dict(stored)
        if "encoders" in values:
            values["encoders"] = {
                name: _encoder_config(name, fields)
                for name, fields in _mapping("encoders", values["encoders"]).items()
            }
        if "routes" in values:
            routes = _mapping("routes", values["routes"])
            values["routes"] = {kind: str(name) for kind, name in routes.items()}
        return build_config(cls, values)


def _form(config: RegionEncoderConfig) -> RegionForm:
    match config:
        case MaskRegionConfig():
            return RegionForm(config.num_tokens)
        case ConnectorConfig():
            return RegionForm(config.num_tokens, spelled=config.tags, tags=config.tags)
        case CoordinateRegionConfig():
            return RegionForm(0, spelled=True, tags=config.marks, decimals=config.decimals)


def _mapping(name: str, value: object) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise ModelError(f"{name}: expected a JSON object, got {value!r}")
    return {str(key): each for key, each in value.items()}


def _encoder_config(name: str, stored: object) -> RegionEncoderConfig:
    fields = _mapping(f"region encoder {name!r}", stored)
    kind = fields.pop("kind", None)
    if kind not in KINDS:
        raise ModelError(f"region encoder {name!r} of kind {kind!r}: expected one of {list(KINDS)}")
    if "aggregation" in fields:
        fields["aggregation"] = build_config(
            Aggregation, _mapping("aggregation", fields["aggregation"])
        )
    return build_config(KINDS[str(kind)], fields)


class RegionEncoders(nn.Module):
    """Encode each region with the encoder of its type, all regions of an encoder at once.

    An encoder without regions is not run and gets no gradient.
    """

    def __init__(
        self,
        config: RegionEncodersConfig,
        *,
        cell_width: int,
        visual_width: int,
        language_width: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.language_width = language_width
        self.encoders = nn.ModuleDict()
        for name, each in config.encoders.items():
            match each:
                case MaskRegionConfig():
                    width = cell_width if each.source == "cells" else visual_width
                    self.encoders[name] = RegionEncoder(width, language_width, each)
                case ConnectorConfig():
                    width = cell_width if each.source == "cells" else visual_width
                    self.encoders[name] = RegionConnector(width, language_width, each)
                case CoordinateRegionConfig():
                    pass

    def forward(self, context: RegionContext, regions: Regions) -> RegionTokens:
        """Return the vectors of all placeholders, in order.

        Raises:
            ModelError: The model does not take a region's type.
        """
        counts = torch.zeros_like(regions.rows)
        found: dict[str, Tensor] = {}
        members: dict[str, Tensor] = {}
        encoders = dict(self.encoders.items())
        for name, chosen in self._members(regions).items():
            encoder = encoders.get(name)
            if isinstance(encoder, RegionEncoder | RegionConnector):
                tokens = encoder.encode(context, regions.select(chosen))
                members[name], found[name] = chosen, tokens
                counts[chosen] = tokens.shape[1]
        if not found:
            return RegionTokens(context.tokens.new_zeros(0, self.language_width), counts)
        starts = counts.cumsum(0) - counts
        places = [
            (starts[chosen][:, None] + torch.arange(found[name].shape[1], device=starts.device))
            for name, chosen in members.items()
        ]
        order = torch.cat([place.flatten() for place in places]).argsort()
        vectors = torch.cat([tokens.flatten(0, 1) for tokens in found.values()])
        return RegionTokens(vectors[order], counts)

    def tokens(self, context: RegionContext, regions: Regions) -> RegionTokens:
        """Return the same as `forward`, under the name that single encoders use."""
        return self(context, regions)

    def _members(self, regions: Regions) -> dict[str, Tensor]:
        """Return the indices of each encoder's regions, without encoders that have none."""
        kinds = tuple(RegionType)
        names = list(self.config.encoders)
        route = [
            names.index(self.config.routes[kind]) if kind in self.config.routes else -1
            for kind in kinds
        ]
        taken = torch.tensor(route, device=regions.types.device)[regions.types]
        if bool((taken < 0).any()):
            kind = kinds[int(regions.types[taken < 0][0])]
            raise ModelError(f"no encoder for regions of type {kind.value!r}")
        chosen = {name: (taken == index).nonzero()[:, 0] for index, name in enumerate(names)}
        return {name: places for name, places in chosen.items() if len(places)}


def build_region_encoder(
    config: RegionEncodersConfig, *, cell_width: int, visual_width: int, language_width: int
) -> RegionEncoder | RegionEncoders:
    """Build the ``region_encoder`` of a model: a single mask encoder, or several encoders.

    A single one keeps the weight names of earlier versions.
    """
    sole = next(iter(config.encoders.values())) if len(config.encoders) == 1 else None
    if isinstance(sole, MaskRegionConfig) and config.routes.keys() == {*_DRAWN}:
        width = cell_width if sole.source == "cells" else visual_width
        return RegionEncoder(width, language_width, sole)
    return RegionEncoders(
        config,
        cell_width=cell_width,
        visual_width=visual_width,
        language_width=language_width,
    )
