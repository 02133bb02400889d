"""A random model with a scripted answer: each token predicts one other token.

Attention and MLPs run and add nothing, so that the next token follows from the last one alone. What
surrounds the words, from image to units, computes as in any model.
"""

from itertools import pairwise

import torch

from deixis.models.pointing import PointingVLM
from deixis.processing.processor import Processor
from deixis.structures import IGNORE_INDEX, Conversation


@torch.no_grad()
def script(model: PointingVLM, processor: Processor, conversation: Conversation) -> None:
    """Make a model answer every question of this form with the conversation's answer."""
    row = processor.row(conversation)
    first = int((row.labels != IGNORE_INDEX).nonzero()[0][0])
    said = row.input_ids[first - 1 :].tolist()
    leading = said[:-1]
    assert len(set(leading)) == len(leading), processor.tokenizer.tokenizer.decode(said)
    language = model.language_model
    for name, parameter in language.named_parameters():
        if ".o_proj." in name or ".down_proj." in name:
            parameter.zero_()
    words = language.get_input_embeddings().get_parameter("weight")
    head = language.get_output_embeddings().get_parameter("weight")
    assert words.shape[1] >= len(leading)
    assert words is not head
    states = torch.eye(words.shape[1])[: len(leading)] * 4
    words[leading] = states
    head.zero_()
    for state, (_, after) in zip(states, pairwise(said), strict=True):
        head[after] += state
