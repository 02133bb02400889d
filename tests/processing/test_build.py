import pytest
from tiny import tiny_model

from deixis.errors import NotationError
from deixis.processing.build import build_processor


def test_an_unknown_notation_is_refused() -> None:
    model, processor = tiny_model()
    model.config.notation = "runes"
    with pytest.raises(NotationError, match="unknown notation 'runes'"):
        build_processor(model.config, processor.tokenizer)
