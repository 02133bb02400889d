"""Draw the example pictures again: ``python examples/draw.py``."""

from pathlib import Path

from PIL import Image

from deixis.data.scenes import draw_scene

SEED = 2026
PICTURES = (
    ("scene-1.png", 388, "standard"),
    ("scene-2.png", 123, "standard"),
    ("scene-3.png", 7, "hard"),
    ("scene-4.png", 27, "plain"),
)


def main() -> None:
    """Write each picture beside this file."""
    for name, index, level in PICTURES:
        scene = draw_scene(SEED, index, level=level, split="test")
        Image.fromarray(scene.image).save(Path(__file__).with_name(name), optimize=True)


if __name__ == "__main__":
    main()
