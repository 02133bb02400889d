import torch

from deixis.models.references import route_references


def test_row_i_is_reference_i_for_all_references() -> None:
    hidden = torch.arange(3 * 5 * 2, dtype=torch.float32).view(3, 5, 2)
    marked = torch.tensor([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
    turns = torch.arange(5).expand(3, 5)
    found = route_references(hidden, marked, turns)
    assert torch.equal(found.states[found.filled], hidden[marked])
    assert torch.equal(found.turns[found.filled], turns[marked])
    assert found.filled.sum(1).tolist() == [3, 0, 1]
    assert len(found) == 4


def test_the_state_before_a_reference_is_the_one_that_predicted_it() -> None:
    hidden = torch.arange(2 * 6 * 2, dtype=torch.float32).view(2, 6, 2)
    marked = torch.tensor([[0, 0, 1, 1, 0, 1], [0, 1, 0, 0, 0, 0]], dtype=torch.bool)
    turns = torch.tensor([[1, 1, 1, 1, 2, 2], [1, 1, 0, 0, 0, 0]])
    found = route_references(hidden, marked, turns, offset="prev")
    # two consecutive references: the second is predicted at the first
    expected = torch.stack([hidden[0, 1], hidden[0, 2], hidden[0, 4], hidden[1, 0]])
    assert torch.equal(found.states[found.filled], expected)
    assert torch.equal(found.turns[found.filled], torch.tensor([1, 1, 2, 1]))
    at = route_references(hidden, marked, turns)
    assert torch.equal(at.filled, found.filled)
    assert not torch.equal(at.states, found.states)


def test_without_references_there_is_one_empty_column() -> None:
    found = route_references(
        torch.ones(2, 3, 4),
        torch.zeros(2, 3, dtype=torch.bool),
        torch.zeros(2, 3, dtype=torch.long),
    )
    assert found.states.shape == (2, 1, 4)
    assert len(found) == 0
