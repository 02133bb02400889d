"""Cached against uncached generation: the same answers, time as a ratio in one run.

Run: python benchmarks/generation.py [--tokens 64] [--questions 8]
"""

import argparse
import time

import torch

from deixis.data.scenes import draw_scene, scene_sample
from deixis.inference import generate, load
from deixis.processing.batch import collate
from deixis.structures import Conversation, Turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    predictor = load("scenes-tiny")
    tokenizer = predictor.processor.tokenizer
    rows = []
    for index in range(options.questions):
        sample = scene_sample(draw_scene(9, index, level="standard", split="train"))
        turn = Turn(("Describe the scene and show each thing.",))
        rows.append(
            predictor.processor.row(Conversation(sample.id, sample.image, sample.size, (turn,)))
        )
    batch = collate(rows, pad_id=tokenizer.pad_id, left=True)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    answers = {}
    for _ in range(options.repeats):
        for cached in (True, False):
            start = time.perf_counter()
            answers[cached], _ = generate(
                predictor.model,
                batch,
                end_id=tokenizer.end_id,
                max_new_tokens=options.tokens,
                cached=cached,
            )
            seconds[cached].append(time.perf_counter() - start)
    assert [a.ids for a in answers[True]] == [a.ids for a in answers[False]]
    best = {cached: min(times) for cached, times in seconds.items()}
    longest = max(len(answer.ids) for answer in answers[True])
    print(
        f"{options.questions} questions, up to {longest} tokens, {torch.get_num_threads()} threads"
    )
    print(f"uncached / cached time: {best[False] / best[True]:.1f}")


if __name__ == "__main__":
    main()
