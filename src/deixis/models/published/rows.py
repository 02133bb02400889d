"""What a mapping of published weights is made of: rows that say where a tensor goes.

A ``*`` in a key stands for a number, such as that of a layer; it is the same number in the name.
Shapes are words for sizes: the first tensor that has a word says how much it is, and all others
have to agree. A word with ``*`` is a size that each number has for itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor, or one for each number.

    Attributes:
        key: Its name in the published file.
        part: The part of a deixis model that it belongs to.
        name: Its name inside that part.
        shape: A word or a number for each axis, as in ``language visual``.
        optional: Whether files may go without it.
    """

    key: str
    part: str
    name: str
    shape: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """How the published weights of one system become parts.

    Attributes:
        system: The system's name.
        source: Which public code saves these names.
        groups: Rows that are in a file together; a file may go without a whole group.
        required: Of each set of groups, one has to be there.
        left_out: Keys that become nothing, with the reason.
        sizes: What the words come to in the weights that are released.
        settings: What a model has to be told of that is in no tensor, by the name of the setting.
        tokens: Fields of ``config.json``, dotted, that hold the number of a token, and the token.
        non_linear: The field of ``config.json`` that says whether SiLU stands between the maps of
            the system's adapters, which no tensor tells; empty where it has no adapters.
    """

    system: str
    source: str
    groups: Mapping[str, tuple[Row, ...]]
    required: tuple[tuple[str, ...], ...]
    left_out: Mapping[str, str]
    sizes: Mapping[str, int]
    settings: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    non_linear: str = ""


def linear(
    key: str, part: str, name: str, shape: str, *, bias: bool = True, optional_bias: bool = False
) -> tuple[Row, ...]:
    """Rows of a linear map or a convolution; ``shape`` is that of the weight, outputs first."""
    weight = Row(f"{key}.weight", part, f"{name}.weight", shape)
    if not bias:
        return (weight,)
    output = shape.split(maxsplit=1)[0]
    return (weight, Row(f"{key}.bias", part, f"{name}.bias", output, optional_bias))


def norm(key: str, part: str, name: str, width: str) -> tuple[Row, ...]:
    """Rows of a normalisation with weight and bias."""
    return tuple(Row(f"{key}.{each}", part, f"{name}.{each}", width) for each in ("weight", "bias"))


def joined(*several: Sequence[Row]) -> tuple[Row, ...]:
    """All rows of several."""
    return tuple(row for rows in several for row in rows)


def renamed(rows: Sequence[Row], key: str, part: str, name: str) -> tuple[Row, ...]:
    """The same rows under prefixes of keys and names, in another part."""
    return tuple(Row(key + row.key, part, name + row.name, row.shape, row.optional) for row in rows)
