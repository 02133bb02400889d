"""The composite model with SmolLM2-135M, and the text branch with the weights of MiniLM."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from closeness import assert_same_outputs
from real_weights import MINILM, SMOLLM2
from tiny import tiny_choice, tiny_recipe
from transformers import AutoModelForCausalLM, AutoTokenizer

from deixis.batch import Regions
from deixis.models.regions.text_branch import TextBranch, read_text_config
from deixis.structures import Conversation, GroundedText, Turn
from deixis.training import Stage
from deixis.training.build import build_model
from deixis.training.loop import set_trainable

pytestmark = [pytest.mark.weights, pytest.mark.slow]


def test_smollm2_has_the_same_logits_inside_the_composite(real_weights: Path) -> None:
    folder = real_weights / SMOLLM2
    model, processor = build_model(
        tiny_recipe(model=replace(tiny_choice(), language=str(folder), concepts=False))
    )
    model.train(mode=False)
    bare = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    own = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([own.encode("The capital of France is", add_special_tokens=False)])
    assert ids[0].tolist() == list(processor.tokenizer.encode_text("The capital of France is"))
    head = model.language_model.get_output_embeddings()
    with torch.no_grad():
        seen = model.see(torch.zeros(1, 3, 64, 64))
        none = Regions.drawn(torch.zeros(0, 32, 32), torch.zeros(0, dtype=torch.long))
        positions = torch.arange(ids.shape[1])[None]
        hidden = model.read(model.embed(ids, seen, none), positions, torch.ones_like(ids).bool())
        wanted = bare(ids, output_hidden_states=True)
        assert_same_outputs(hidden, wanted.hidden_states[-1])
        logits = head(hidden)
    assert own.decode(int(logits[0, -1].argmax())) == " Paris"
    # new tokens are no likelier than others, so probabilities of old tokens barely change
    assert torch.allclose(
        logits.softmax(-1)[..., : len(own)], wanted.logits.softmax(-1)[..., : len(own)], atol=1e-3
    )
    # turn markers of its own chat format stay text
    literal = processor.tokenizer.encode_text("<|im_start|>system")
    assert own.convert_tokens_to_ids("<|im_start|>") not in literal
    tuned = Stage("x", 1, (), tuning=(("language_model", "lora"),))
    # rank 8 on queries (576 to 576) and values (576 to 192) of 30 layers
    assert set_trainable(model, tuned).trained == 30 * 8 * (2 * 576 + 576 + 192)
    turn = Turn(("Say it.",), GroundedText("It."))
    assert len(processor.row(Conversation("words", None, None, (turn,))).input_ids) > 4


def test_minilm_scores_paraphrases_above_other_sentences(real_weights: Path) -> None:
    folder = real_weights / MINILM
    branch = TextBranch(read_text_config(folder), summary="mean")
    branch.load(folder)
    branch.train(mode=False)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def summaries(texts: Sequence[str]) -> torch.Tensor:
        batch = tokenizer(list(texts), padding=True, return_tensors="pt")
        with torch.no_grad():
            _, _, summary = branch(batch["input_ids"], batch["attention_mask"].bool())
        return torch.nn.functional.normalize(summary, dim=-1)

    horse, rider, bank = summaries(
        ["A man rides a horse.", "Someone is riding on a horse.", "The bank raised its rates."]
    )
    assert horse @ rider > 0.6
    assert horse @ bank < 0.3
