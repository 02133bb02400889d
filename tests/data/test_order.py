import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.data.order import ShuffledOrder


@given(count=st.integers(1, 400), seed=st.integers(0, 2**40), epoch=st.integers(0, 3))
def test_every_epoch_has_every_row_once(count: int, seed: int, epoch: int) -> None:
    order = ShuffledOrder(count, seed)
    rows = [order.at(place) for place in range(epoch * count, (epoch + 1) * count)]
    assert sorted(rows) == list(range(count))


def test_epochs_and_seeds_differ_and_places_are_mixed() -> None:
    order = ShuffledOrder(1000, 1)
    first = [order.at(place) for place in range(1000)]
    assert first != [order.at(place) for place in range(1000, 2000)]
    assert first != [ShuffledOrder(1000, 2).at(place) for place in range(1000)]
    assert abs(float(np.corrcoef(first, np.arange(1000))[0, 1])) < 0.1
    # neighbours in the stream are not neighbours in the data
    assert np.median(np.abs(np.diff(first))) > 200


def test_an_order_of_a_hundred_million_rows_needs_no_memory() -> None:
    order = ShuffledOrder(10**8, 3)
    rows = [order.at(place) for place in (0, 10**7, 10**8 - 1, 10**12)]
    assert len(set(rows)) == 4
    assert all(0 <= row < 10**8 for row in rows)


def test_an_order_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ShuffledOrder(0)
