"""The runtime type checker of the test suite: jaxtyping's shapes, and ints where floats fit."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
