"""The vocabulary of drawn scenes: class names, colours, textures and sizes."""

LEVELS = ("plain", "standard", "hard")
SPLITS = ("train", "val", "testA", "testB", "test")

SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "cross",
    "diamond",
    "pentagon",
    "hexagon",
    "ring",
    "moon",
    "arrow",
    "oval",
)
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
SIZES = ("small", "medium", "large")
TEXTURES = ("plain", "striped", "dotted")
CONTAINERS = ("box", "bowl", "basket")
SURFACES = ("table", "shelf", "mat")
WEARABLES = ("hat", "crown")
HOLDABLES = ("balloon", "flag", "umbrella")
FIGURE = "person"

LETTERS = tuple("ABCDEFGHJKLMNPRTUVWXY")
"""Without I, O, Q, S and Z, which look like a digit or another letter."""

DIGITS = tuple("0123456789")

NAMES = (
    *SHAPES,
    *HOLDABLES,
    *WEARABLES,
    *CONTAINERS,
    *SURFACES,
    FIGURE,
    "letter",
    "digit",
)
"""All class names."""

COLOR_VALUES: dict[str, tuple[int, int, int]] = {
    "red": (214, 38, 42),
    "orange": (244, 132, 22),
    "yellow": (250, 214, 40),
    "green": (44, 158, 68),
    "blue": (38, 96, 216),
    "purple": (130, 58, 178),
    "pink": (246, 138, 190),
    "black": (34, 34, 38),
}

TONE_VALUES: dict[str, tuple[int, int, int]] = {
    "red": (122, 10, 18),
    "orange": (176, 80, 4),
    "yellow": (200, 150, 8),
    "green": (150, 222, 150),
    "blue": (150, 190, 252),
    "purple": (208, 166, 238),
    "pink": (198, 70, 134),
    "black": (136, 136, 142),
}
"""The second tone of stripes and dots, of the same hue, so that the colour word is unambiguous."""

SIZE_RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "shape": {"small": (0.07, 0.11), "medium": (0.14, 0.20), "large": (0.25, 0.36)},
    "letter": {"small": (0.08, 0.11), "medium": (0.14, 0.20), "large": (0.25, 0.34)},
    "digit": {"small": (0.08, 0.11), "medium": (0.14, 0.20), "large": (0.25, 0.34)},
    "figure": {"small": (0.26, 0.31), "medium": (0.38, 0.45), "large": (0.55, 0.66)},
    "container": {"small": (0.19, 0.23), "medium": (0.29, 0.34), "large": (0.43, 0.50)},
    "surface": {"small": (0.22, 0.26), "medium": (0.33, 0.39), "large": (0.49, 0.58)},
}
"""Longest side of an instance of each kind, as a fraction of the picture's long side.

A size word compares an instance with others of its kind: a small person is taller than a small
circle. The ranges of a kind do not touch.
"""

TINY_RANGE = (0.04, 0.055)
"""Sizes of tiny shapes at level ``hard``, which are always plain."""
