"""Overrides of recipe fields by path, checked against their types, and recipes as JSON."""

import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from deixis.errors import DeixisError, RecipeError
from deixis.training.recipe import ENTRIES, as_saved_now

_Recipe = TypeVar("_Recipe")
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def apply_overrides(recipe: _Recipe, overrides: Sequence[str]) -> _Recipe:
    """Return ``recipe`` with fields changed, in order, by ``path=value`` strings.

    A path names fields and counts entries of tuples: ``stages.1.optimizer.lr=1e-4``. A value is
    parsed by the field's type: numbers, ``true`` or ``false``, text, one of the choices of a
    ``Literal``, ``none`` for None, and tuples as ``1,2`` or as JSON.

    Raises:
        RecipeError: An override has no ``=``, a field or entry is unknown, or its value has the
            wrong type or is refused by the recipe.
    """
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals or not path.strip():
            raise RecipeError(f"override {override!r}: expected path=value, as in seed=1")
        recipe = _changed(recipe, type(recipe), path.strip().split("."), value.strip(), override)
    return recipe


def recipe_to_json(recipe: object) -> str:
    """Return a recipe as JSON text for `recipe_from_json`.

    Raises:
        RecipeError: JSON cannot hold the value of a field, such as a function or an infinite number.
    """
    if not is_dataclass(recipe) or isinstance(recipe, type):
        raise RecipeError(f"a recipe of type {type(recipe).__name__}: expected a dataclass")
    try:
        return json.dumps(asdict(recipe), indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"recipe cannot be written as JSON: {error}") from error


def recipe_from_json(kind: type[_Recipe], text: str) -> _Recipe:
    """Read a recipe of type ``kind`` from the output of `recipe_to_json`.

    Missing fields have their defaults, so that recipes of earlier versions can be read.

    Raises:
        RecipeError: The text is not JSON, or a field is unknown, has a wrong type, or is missing
            without a default.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"recipe is not JSON: {error}") from error
    recipe = _from_data(data, kind, "recipe")
    if not isinstance(recipe, kind):
        raise RecipeError(f"recipe: expected {kind.__name__}")
    return recipe


def _changed(current: Any, hint: Any, path: Sequence[str], value: str, override: str) -> Any:
    """Return ``current``, declared as ``hint``, with the value at ``path`` below it replaced."""
    if not path:
        return _parsed(value, hint, override)
    key, rest = path[0], path[1:]
    if is_dataclass(current) and not isinstance(current, type):
        hints = get_type_hints(type(current))
        names = [field.name for field in fields(current) if field.init]
        if key not in names:
            raise RecipeError(
                f"override {override!r}: {type(current).__name__} has no field {key!r}; "
                f"it has {', '.join(names)}"
            )
        below, entries = getattr(current, key), _entries(type(current), key)
        if entries is None:
            changed = _changed(below, hints[key], rest, value, override)
        else:
            changed = _changed_entry(below, entries, rest, value, override)
        try:
            return replace(current, **{key: changed})
        except DeixisError as error:
            raise RecipeError(f"override {override!r}: {error}") from error
        except (TypeError, ValueError) as error:
            raise RecipeError(f"override {override!r}: refused: {error}") from error
    if isinstance(current, tuple):
        if not key.isdecimal() or int(key) >= len(current):
            places = f"0 to {len(current) - 1}" if current else "none, it is empty"
            raise RecipeError(f"override {override!r}: no entry {key!r}; expected {places}")
        index = int(key)
        changed = _changed(current[index], _entry_hint(hint, index), rest, value, override)
        return (*current[:index], changed, *current[index + 1 :])
    raise RecipeError(
        f"override {override!r}: a value of type {type(current).__name__} has no part {key!r}"
    )


def _changed_entry(
    current: Mapping[str, Any],
    entries: Callable[[str], type],
    path: Sequence[str],
    value: str,
    override: str,
) -> dict[str, Any]:
    """Return a mapping with a value below one of its entries replaced.

    A new entry starts with its defaults; ``none`` removes an entry.
    """
    if not path:
        raise RecipeError(
            f"override {override!r}: set entry by entry; entries: {', '.join(current) or 'none'}"
        )
    name, *rest = path
    try:
        kind = entries(name)
        if not rest and value.lower() in {"none", "null"}:
            return {key: entry for key, entry in current.items() if key != name}
        begun = current[name] if name in current else kind()
    except DeixisError as error:
        raise RecipeError(f"override {override!r}: {error}") from error
    except TypeError as error:
        raise RecipeError(f"override {override!r}: refused: {error}") from error
    return {**current, name: _changed(begun, kind, rest, value, override)}


def _entries(kind: type, name: str) -> Callable[[str], type] | None:
    """Return the function from entry names to classes; None for a field without entries."""
    found: Callable[[str], type] | None = next(
        field.metadata.get(ENTRIES) for field in fields(kind) if field.name == name
    )
    return found


def _entry_hint(hint: Any, index: int) -> Any:
    for choice in _choices(hint):
        if get_origin(choice) is tuple:
            arguments = get_args(choice)
            repeated = len(arguments) == 2 and arguments[1] is Ellipsis
            return arguments[0] if repeated else arguments[index]
    return object


def _choices(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself."""
    if get_origin(hint) in {typing.Union, types.UnionType}:
        return get_args(hint)
    return (hint,)


def _described(hint: Any) -> str:
    if hint is type(None):
        return "none"
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(str(value) for value in get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(str(member.value) for member in hint)
    if get_origin(hint) in {typing.Union, types.UnionType}:
        return " or ".join(_described(choice) for choice in get_args(hint))
    if get_origin(hint) is tuple:
        inner = [_described(argument) for argument in get_args(hint) if argument is not Ellipsis]
        return f"a tuple of {', '.join(inner)}"
    return {int: "an integer", float: "a number", bool: "true or false", str: "text"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )


def _parsed(text: str, hint: Any, override: str) -> Any:
    if is_dataclass(hint):
        names = ", ".join(field.name for field in fields(hint))
        raise RecipeError(
            f"override {override!r}: {_described(hint)} is set field by field: {names}"
        )
    for choice in _choices(hint):
        try:
            return _read(text, choice)
        except ValueError:
            continue
    raise RecipeError(f"override {override!r}: expected {_described(hint)}, got {text!r}")


def _read(text: str, hint: Any) -> Any:
    """Parse command-line text as one type; raise ValueError if it does not fit."""
    origin = get_origin(hint)
    if origin is tuple:
        return _from_plain(_listed(text), hint)
    if hint is type(None):
        if text.lower() in {"none", "null"}:
            return None
        raise ValueError(text)
    if hint is bool:
        if text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        raise ValueError(text)
    if hint in {int, float}:
        return _from_plain(int(text) if hint is int else float(text), hint)
    if origin is Literal:
        for value in get_args(hint):
            if str(value) == text:
                return value
        raise ValueError(text)
    if hint in {str, object, Any}:
        return text
    return _from_plain(text, hint)


def _listed(text: str) -> list[Any]:
    """Read ``1,2``, ``plain,hard`` or a JSON list."""
    if text.startswith("["):
        value = json.loads(text)
        if isinstance(value, list):
            return value
        raise ValueError(text)
    parts = [part.strip() for part in text.strip("()").split(",") if part.strip()]
    return [_scalar(part) for part in parts]


def _scalar(text: str) -> int | float | bool | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def _from_plain(value: Any, hint: Any) -> Any:
    """Check plain data (numbers, text, lists) against a type; raise ValueError if it does not fit."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        for choice in arguments:
            try:
                return _from_plain(value, choice)
            except ValueError:
                continue
        raise ValueError(value)
    if origin is Literal:
        if any(value == allowed and type(value) is type(allowed) for allowed in arguments):
            return value
        raise ValueError(value)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(value)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        if len(arguments) != len(value):
            raise ValueError(value)
        return tuple(_from_plain(*pair) for pair in zip(value, arguments, strict=True))
    if origin is Mapping and isinstance(value, Mapping):
        return dict(value)
    if hint is float and type(value) in {int, float} and math.isfinite(value):
        return float(value)
    if hint in {int, str, bool, type(None)} and type(value) is hint:
        return value
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(value)
    if hint in {object, Any}:
        return value
    raise ValueError(value)


def _from_data(data: Any, hint: Any, where: str) -> Any:
    """Build a value of type ``hint``, dataclasses included, from parsed JSON."""
    choices = _choices(hint)
    classes = [choice for choice in choices if is_dataclass(choice)]
    if isinstance(data, Mapping) and classes:
        # Of several classes, choose the one with these fields and the fewest others.
        fitting = sorted(
            (
                kind
                for kind in classes
                if as_saved_now(kind, data).keys() <= {f.name for f in fields(kind)}
            ),
            key=lambda kind: len(fields(kind)),
        )
        meant = (fitting or classes)[0]
        return _build(meant, as_saved_now(meant, data), where)
    for choice in choices:
        if get_origin(choice) is tuple and isinstance(data, list):
            arguments = get_args(choice)
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                arguments = (arguments[0],) * len(data)
            if len(arguments) == len(data):
                return tuple(
                    _from_data(entry, kind, f"{where}.{index}")
                    for index, (entry, kind) in enumerate(zip(data, arguments, strict=True))
                )
    try:
        return _from_plain(data, hint)
    except ValueError as error:
        raise RecipeError(f"{where}: expected {_described(hint)}, got {data!r}") from error


def _entry_class(entries: Callable[[str], type], name: str, where: str) -> type:
    try:
        return entries(name)
    except DeixisError as error:
        raise RecipeError(f"{where}: {error}") from error


def _build(kind: Any, data: Mapping[str, Any], where: str) -> Any:
    known = [field.name for field in fields(kind) if field.init]
    needed = {
        field.name
        for field in fields(kind)
        if field.default is MISSING and field.default_factory is MISSING
    }
    for name in data:
        if name not in known:
            raise RecipeError(
                f"{where}: {kind.__name__} has no field {name!r}; it has {', '.join(known)}"
            )
    for name in known:
        if name in needed and name not in data:
            raise RecipeError(f"{where}: {kind.__name__} lacks its field {name!r}")
    hints = get_type_hints(kind)
    values = {}
    for name in known:
        if name not in data:
            continue
        place = f"{where}.{name}"
        entries = _entries(kind, name)
        if entries is None:
            values[name] = _from_data(data[name], hints[name], place)
        elif isinstance(data[name], Mapping):
            values[name] = {
                key: _from_data(entry, _entry_class(entries, key, place), f"{place}.{key}")
                for key, entry in data[name].items()
            }
        else:
            raise RecipeError(f"{place}: expected entries by name, got {data[name]!r}")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{where}: refused: {error}") from error
