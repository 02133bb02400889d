"""Rows of a mapping of published weights: the place of each tensor in a deixis model.

A ``*`` in a key is an index, such as that of a layer, and the same index in the name. Shapes are
words for sizes: the first tensor with a word defines its size, and all others must agree. A word
with ``*`` is a size for each index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor, or one for each index.

    Attributes:
        key: Its name in the published file.
        part: The deixis part that it belongs to.
        name: Its name in that part.
        shape: A word or a number for each axis, as in ``language visual``.
        optional: Whether files may lack it.
    """

    key: str
    part: str
    name: str
    shape: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Mapping of the published weights of one system to parts.

    Attributes:
        system: The system's name.
        source: The public code that saves these names.
        groups: Rows that files have together; a file may lack a whole group.
        required: Sets of alternative groups, of which one each is required.
        left_out: Keys without a place, with the reason.
        sizes: Sizes by word in the released weights.
        settings: Settings of the model that tensors do not determine, by name.
        tokens: Dotted fields of ``config.json`` with a token's index, and the token.
        non_linear: The field of ``config.json`` that says whether the system's adapters have SiLU
            between their maps; empty without adapters.
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
    """Return rows of a linear map or convolution with weights of ``shape``, outputs first."""
    weight = Row(f"{key}.weight", part, f"{name}.weight", shape)
    if not bias:
        return (weight,)
    output = shape.split(maxsplit=1)[0]
    return (weight, Row(f"{key}.bias", part, f"{name}.bias", output, optional_bias))


def norm(key: str, part: str, name: str, width: str) -> tuple[Row, ...]:
    """Return rows of a normalisation with weight and bias."""
    return tuple(Row(f"{key}.{each}", part, f"{name}.{each}", width) for each in ("weight", "bias"))


def joined(*several: Sequence[Row]) -> tuple[Row, ...]:
    """Return all rows of several sequences."""
    return tuple(row for rows in several for row in rows)


def renamed(rows: Sequence[Row], key: str, part: str, name: str) -> tuple[Row, ...]:
    """Return the rows with prefixes of keys and names, in another part."""
    return tuple(Row(key + row.key, part, name + row.name, row.shape, row.optional) for row in rows)
