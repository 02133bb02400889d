"""Checks that the configurations of region encoders share, and their construction from JSON."""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from deixis.errors import ModelError

Config = TypeVar("Config")


def check_fields(kind: type, values: Mapping[str, object]) -> None:
    """Check the types of values against the fields of the dataclass ``kind``.

    Raises:
        ModelError: A field is unknown, or a value is not one of the choices of its field or not of
            its type; numbers must be finite.
    """
    hints = get_type_hints(kind)
    unknown = sorted(values.keys() - hints.keys())
    if unknown:
        raise ModelError(f"{kind.__name__}: unknown fields {unknown}; expected {sorted(hints)}")
    for name, value in values.items():
        hint = hints[name]
        if get_origin(hint) is Literal:
            if value not in get_args(hint):
                raise ModelError(f"{name} {value!r}: expected one of {list(get_args(hint))}")
        elif hint in {int, float, bool, str} and not _is_a(hint, value):
            raise ModelError(f"{name}: expected {hint.__name__}, got {value!r}")


def check_count(name: str, value: int, *, least: int = 1) -> None:
    """Check that a size is at least ``least``.

    Raises:
        ModelError: It is smaller.
    """
    if value < least:
        raise ModelError(f"{name}: expected at least {least}, got {value}")


def build_config(kind: type[Config], values: Mapping[str, object]) -> Config:
    """Build a configuration from its fields in JSON data.

    Raises:
        ModelError: A field is unknown or its value invalid.
    """
    check_fields(kind, values)
    return kind(**values)


def values_of(config: Any) -> dict[str, object]:
    """Return the fields of a dataclass by name."""
    return {field.name: getattr(config, field.name) for field in fields(config)}


def _is_a(hint: type, value: object) -> bool:
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    if hint is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, hint)
