"""Checks that the configurations of region encoders share, and their way from and to JSON."""

from collections.abc import Mapping
from dataclasses import fields
from typing import TypeVar, get_args

from deixis.errors import ModelError

Config = TypeVar("Config")


def check_choice(name: str, value: str, choices: object) -> None:
    """Check that ``value`` is one of the words of a ``Literal``.

    Raises:
        ModelError: It is not.
    """
    if value not in get_args(choices):
        raise ModelError(f"{name} {value!r}: expected one of {list(get_args(choices))}")


def check_count(name: str, value: object, *, least: int = 1) -> None:
    """Check that a size is a whole number of at least ``least``.

    Raises:
        ModelError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ModelError(f"{name}: expected a whole number of at least {least}, got {value!r}")


def build_config(kind: type[Config], values: Mapping[str, object]) -> Config:
    """Make a configuration from its fields, as JSON has them.

    Raises:
        ModelError: A field is unknown, or its value not one that the configuration allows.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    unknown = sorted(values.keys() - known)
    if unknown:
        raise ModelError(f"{kind.__name__}: unknown fields {unknown}; expected {sorted(known)}")
    return kind(**values)
