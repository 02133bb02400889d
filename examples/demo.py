"""Ask the shipped model about the example pictures and draw its answers.

``python examples/demo.py [FOLDER]`` prints each answer and writes its overlay into FOLDER
(``out/demo`` by default).
"""

import sys
from pathlib import Path

import deixis

EXAMPLES = Path(__file__).parent
BASKET = deixis.Box(77, 52, 168, 115)
QUESTIONS: tuple[tuple[str, str | list[str | deixis.Box]], ...] = (
    ("scene-1.png", "the red circle on the left"),
    ("scene-1.png", "Describe the image and show each thing."),
    ("scene-2.png", "Segment every star."),
    ("scene-2.png", "How many circles are there?"),
    ("scene-3.png", ["What is ", BASKET, "?"]),
    ("scene-4.png", "Where is the blue square?"),
)


def main() -> None:
    """Print the answers and the paths of the overlays."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo")
    out.mkdir(parents=True, exist_ok=True)
    model = deixis.load("scenes-tiny")
    answers = model.ask_many([(EXAMPLES / name, prompt) for name, prompt in QUESTIONS])
    for number, ((name, prompt), answer) in enumerate(zip(QUESTIONS, answers, strict=True), 1):
        question = prompt if isinstance(prompt, str) else "".join(map(str, prompt))
        overlay = out / f"answer-{number}.png"
        answer.draw().save(overlay)
        print(f"{name}: {question}\n  {answer.text}\n  {overlay}")


if __name__ == "__main__":
    main()
