"""Ask the shipped model about the example images and draw its answers.

``python examples/demo.py [FOLDER]`` prints each answer and writes its overlay into FOLDER
(``out/demo`` by default).
"""

import sys
from pathlib import Path

import deixis

EXAMPLES = Path(__file__).parent
OVAL = deixis.Box(180, 77, 200, 110)
QUESTIONS: tuple[tuple[str, str | list[str | deixis.Box]], ...] = (
    ("scene-1.png", "the red circle on the left"),
    ("scene-1.png", "Where is the person?"),
    ("scene-3.png", "Segment the basket."),
    ("scene-4.png", "Segment the moon."),
    ("scene-2.png", ["What is ", OVAL, "?"]),
    ("scene-4.png", "Where is the blue square?"),
)
WEAK = """\
These questions show what the model does well. It is weak at counting, finds too many instances when a question
asks for all, denies some instances that are present, names some twice in captions, and has never seen a
photograph. results/scenes_tiny.md has the numbers."""


def said(prompt: str | list[str | deixis.Box]) -> str:
    """The question as text, with the corners of its regions."""
    parts = [prompt] if isinstance(prompt, str) else prompt
    return "".join(
        part if isinstance(part, str) else f"the thing at {place(part)}" for part in parts
    )


def place(unit: deixis.Box | deixis.Mask) -> str:
    """The corners of a box, or of the box around a mask, in whole pixels."""
    box = unit.to_box() if isinstance(unit, deixis.Mask) else unit
    return f"({box.x1:.0f}, {box.y1:.0f}) to ({box.x2:.0f}, {box.y2:.0f})"


def main() -> None:
    """Print the answers with their boxes and scores, and the paths of the overlays."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo")
    out.mkdir(parents=True, exist_ok=True)
    model = deixis.load("scenes-tiny")
    answers = model.ask_many([(EXAMPLES / name, prompt) for name, prompt in QUESTIONS])
    for number, ((name, prompt), answer) in enumerate(zip(QUESTIONS, answers, strict=True), 1):
        overlay = out / f"answer-{number}.png"
        answer.draw().save(overlay)
        print(f"{name}: {said(prompt)}\n  {answer.text}")
        for phrase in answer.phrases:
            units = phrase.boxes or phrase.masks
            for unit, score in zip(units, phrase.scores, strict=True):
                kind = type(unit).__name__.lower()
                print(f"  {phrase.text}: {kind} at {place(unit)}, {score:.0%} sure")
        print(f"  drawn in {overlay}")
    print(WEAK)


if __name__ == "__main__":
    main()
