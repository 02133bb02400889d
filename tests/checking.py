"""The runtime type checker of the test suite: jaxtyping's shapes, and ints where floats fit.

jaxtyping looks for shapes in every call of every function, which takes ten times as long as what most
of them do. Functions that name no array are checked by beartype alone.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any, ForwardRef, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))

_jaxtyped = jaxtyping.jaxtyped


def names_arrays(hint: Any) -> bool:
    """Return whether an annotation contains a shape, or may contain one."""
    if isinstance(hint, str | ForwardRef):
        # a name that is not defined yet
        return True
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(names_arrays, (each for each in get_args(hint) if each is not hint)))


def _where_arrays_are(*arguments: Any, **options: Any) -> Any:
    decorator = _jaxtyped(*arguments, **options)
    if arguments:
        return decorator

    def decorate(each: Any) -> Any:
        plain = isinstance(each, FunctionType) and not any(
            map(names_arrays, each.__annotations__.values())
        )
        checked: Callable[..., Any] = check(each) if plain else decorator(each)
        return checked

    return decorate


jaxtyping.jaxtyped = _where_arrays_are
