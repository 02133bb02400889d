"""Whatever a field of a record becomes, a reader says what is wrong and goes on."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.sources.pictures import levels, picture
from data.sources.reading import collect

from deixis.data.sources.base import Source
from deixis.data.sources.coco_interactive import open_coco_interactive
from deixis.data.sources.depth import open_depth
from deixis.data.sources.diagrams import open_ai2d, open_docvqa, open_dvqa, open_scienceqa
from deixis.data.sources.gqa import open_gqa_scenes
from deixis.data.sources.grand import open_grand
from deixis.data.sources.grit import open_grit
from deixis.data.sources.llava import open_llava
from deixis.data.sources.llava_grounding import open_llava_grounding
from deixis.data.sources.openpsg import open_openpsg
from deixis.data.sources.osprey import open_osprey
from deixis.data.sources.png import open_png
from deixis.data.sources.pointqa import open_pointqa
from deixis.data.sources.vcr import open_vcr
from deixis.data.sources.visual7w import open_visual7w
from deixis.data.sources.vqa import open_aokvqa, open_gqa, open_pope, open_vqa, open_vsr
from deixis.errors import AnnotationError

_SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]
_RUNS = {"size": [48, 64], "counts": [500, 20, 2552]}
_TURNS = [
    {"from": "human", "value": "<image>\nWho is <region1>?"},
    {"from": "gpt", "value": "<g_s> A man <g_e> <seg>"},
]
_ASKED = {"question": "What?", "choices": ["a", "b"], "answer": 1}
_PANOPTIC = [{"id": 1, "category_id": 0, "iscrowd": 0}, {"id": 2, "category_id": 1, "iscrowd": 0}]
_INFO = {"id": 1, "file_name": "1.jpg", "width": 64, "height": 48}

_FILES: dict[str, tuple[Callable[[Path], Source], dict[str, Any]]] = {
    "vqa": (
        open_vqa,
        {
            "a_val_questions.json": {
                "questions": [{"image_id": 1, "question_id": 1, "question": "Who?"}]
            },
            "a_val_annotations.json": {
                "annotations": [
                    {
                        "image_id": 1,
                        "question_id": 1,
                        "answers": [{"answer": "a"}, {"answer": "b"}],
                        "multiple_choice_answer": "a",
                    }
                ]
            },
        },
    ),
    "aokvqa": (
        open_aokvqa,
        {
            "aokvqa_v1p0_val.json": [
                {
                    "image_id": 1,
                    "question_id": "x",
                    "question": "Who?",
                    "choices": ["a", "b"],
                    "correct_choice_idx": 1,
                    "direct_answers": ["a"],
                    "difficult_direct_answer": False,
                    "rationales": ["So."],
                }
            ]
        },
    ),
    "gqa": (
        lambda path: open_gqa(path / "gqa.json"),
        {"gqa.json": {"1": {"imageId": "1", "question": "Who?", "answer": "me"}}},
    ),
    "vsr": (open_vsr, {"train.jsonl": [{"image": "1.jpg", "caption": "It is.", "label": 1}]}),
    "pope": (
        lambda path: open_pope(path / "pope.json"),
        {"pope.json": [{"question_id": 1, "image": "1.jpg", "text": "Is it?", "label": "yes"}]},
    ),
    "dvqa": (
        open_dvqa,
        {"train_qa.json": [{"image": "1.jpg", "question_id": 1, "question": "?", "answer": "a"}]},
    ),
    "docvqa": (
        open_docvqa,
        {
            "train_v1.0.json": {
                "data": [{"image": "1.jpg", "questionId": 1, "question": "?", "answers": ["a"]}]
            }
        },
    ),
    "ai2d": (
        open_ai2d,
        {
            "questions/1.json": {
                "imageName": "1.jpg",
                "questions": {"What?": {"answerTexts": ["a", "b"], "correctAnswer": 1}},
            }
        },
    ),
    "scienceqa": (
        open_scienceqa,
        {
            "problems.json": {
                "1": {**_ASKED, "hint": "", "image": "1.jpg", "split": "s", "solution": ""}
            }
        },
    ),
    "gqa_scenes": (
        open_gqa_scenes,
        {
            "train_sceneGraphs.json": {
                "1": {
                    "width": 64,
                    "height": 48,
                    "objects": {
                        "7": {
                            "name": "cat",
                            "x": 1,
                            "y": 1,
                            "w": 9,
                            "h": 9,
                            "attributes": ["big"],
                            "relations": [{"name": "on", "object": "7"}],
                        }
                    },
                }
            }
        },
    ),
    "osprey": (
        open_osprey,
        {
            "questions.json": [
                {
                    "question_id": 1,
                    "image": "1.jpg",
                    "category": "reason",
                    "text": "Why <region>?",
                    "annotation": {"bbox": [1, 1, 9, 9], "segmentation": _SQUARE},
                }
            ],
            "answers.json": [{"question_id": 1, "image": "1.jpg", "text": "So."}],
        },
    ),
    "osprey_724k": (
        lambda path: open_osprey(path / "osprey.json"),
        {
            "osprey.json": [
                {
                    "file_name": "1.jpg",
                    "width": 64,
                    "height": 48,
                    "annotation": [{"bbox": [1, 1, 9, 9], "segmentation": _SQUARE}],
                    "conversations": _TURNS,
                },
                {
                    "file_name": "1.jpg",
                    "width": 64,
                    "height": 48,
                    "annotation": [{"segmentation": _RUNS}],
                    "description": ["<region1>: A cat."],
                },
            ]
        },
    ),
    "grand": (
        lambda path: open_grand(path / "1.json"),
        {
            "1.json": {
                "1.jpg": {
                    "objects": [
                        {
                            "id": 0,
                            "bbox": [1, 1, 9, 9],
                            "labels": ["cat"],
                            "attributes": ["a cat"],
                            "segmentation": _RUNS,
                        }
                    ],
                    "floating_objects": [{"id": 1, "bbox": [1, 1, 9, 9], "labels": ["dog"]}],
                    "floating_attributes": [],
                    "captions": ["a cat"],
                    "relationships": {"grounding": [{"phrase": "a cat", "object_ids": [0, 1]}]},
                    "short_captions": [
                        {
                            "caption": "a cat",
                            "details": [{"phrase": "cat", "tokens_positive": [2, 5], "id": 0}],
                        }
                    ],
                    "dense_caption": {
                        "caption": "a cat",
                        "details": [{"phrase": "cat", "ids": [0]}],
                    },
                }
            }
        },
    ),
    "grit": (
        lambda path: open_grit(path / "rows.jsonl"),
        {
            "rows.jsonl": [
                {
                    "key": "1",
                    "caption": "a cat on a mat",
                    "noun_chunks": [[0, 5, 0.1, 0.1, 0.5, 0.5, 0.9]],
                    "ref_exps": [[0, 14, 0.1, 0.1, 0.5, 0.5, 0.9]],
                }
            ]
        },
    ),
    "llava": (
        lambda path: open_llava(path / "chat.json"),
        {"chat.json": [{"id": "1", "image": "1.jpg", "conversations": _TURNS}]},
    ),
    "llava_grounding": (
        lambda path: open_llava_grounding(path / "conversations.json"),
        {
            "conversations.json": [{"id": "1", "conversations": _TURNS, "gd_ls": [[7]]}],
            "instances_a.json": {
                "images": [_INFO],
                "annotations": [{"id": 7, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}],
                "categories": [{"id": 1, "name": "person"}],
            },
        },
    ),
    "visual7w": (
        lambda path: open_visual7w(path / "v7w.json"),
        {
            "v7w.json": {
                "boxes": [
                    {"box_id": one, "name": "a", "x": one, "y": 1, "width": 9, "height": 9}
                    for one in (1, 2)
                ],
                "images": [
                    {
                        "filename": "1.jpg",
                        "split": "train",
                        "qa_pairs": [
                            {"question": "Which?", "answer": 1, "multiple_choices": [2]},
                            {"question": "What?", "answer": "a", "multiple_choices": ["b"]},
                        ],
                    }
                ],
            }
        },
    ),
    "pointqa": (
        lambda path: open_pointqa(path / "local.json"),
        {
            "local.json": {
                "1": [
                    {"question": "What?", "points": [{"x": 1, "y": 1, "ans": "a"}]},
                    {"pt_question": "How many?", "point": [1, 1], "ans": 2},
                ]
            }
        },
    ),
    "png": (
        lambda path: open_png(
            path / "png.json", panoptic=path / "panoptic_a.json", segments=path, images=path
        ),
        {
            "png.json": [
                {
                    "image_id": "1",
                    "caption": "a cat",
                    "segments": [{"utterance": "a cat", "segment_ids": ["1", "2"]}],
                }
            ],
            "panoptic_a.json": {
                "images": [_INFO],
                "annotations": [
                    {"image_id": 1, "file_name": "segments.png", "segments_info": _PANOPTIC}
                ],
                "categories": [{"id": one, "name": f"c{one}", "isthing": 1} for one in (0, 1)],
            },
        },
    ),
    "openpsg": (
        open_openpsg,
        {
            "psg.json": {
                "data": [
                    {
                        "image_id": "1",
                        "file_name": "1.jpg",
                        "width": 64,
                        "height": 48,
                        "pan_seg_file_name": "segments.png",
                        "segments_info": _PANOPTIC,
                        "relations": [[0, 1, 0]],
                    }
                ],
                "thing_classes": ["person"],
                "stuff_classes": ["wall"],
                "predicate_classes": ["on"],
                "test_image_ids": ["7"],
            }
        },
    ),
    "depth": (
        open_depth,
        {"train.json": {"scale": 1.0, "pairs": [{"image": "1.jpg", "depth": "grey.png"}]}},
    ),
    "coco_interactive": (
        open_coco_interactive,
        {
            "coco_interactive_val_psalm.json": [
                {
                    "image_info": _INFO,
                    "anns": [
                        {
                            "id": 1,
                            "category_id": 1,
                            "bbox": [1, 1, 9, 9],
                            "iscrowd": 0,
                            "segmentation": _SQUARE,
                            "point_visual_prompt_mask": _RUNS,
                            "box_visual_prompt_mask": _RUNS,
                        }
                    ],
                }
            ]
        },
    ),
    "vcr": (
        open_vcr,
        {
            "train.jsonl": [
                {
                    "objects": ["person"],
                    "img_fn": "1.jpg",
                    "metadata_fn": "1.meta",
                    "question": ["Why", [0], "?"],
                    "answer_choices": [["So", "."], [[0], "."]],
                    "answer_label": 0,
                    "rationale_choices": [["a"], ["b"]],
                    "rationale_label": 1,
                    "annot_id": "train-1",
                }
            ],
            "1.meta": {
                "width": 64,
                "height": 48,
                "boxes": [[1, 1, 9, 9, 0.9]],
                "segms": [[[[1, 1], [9, 1], [9, 9]]]],
            },
        },
    ),
}

_WRONG: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**18, 0.5, float("nan"), float("-inf"), 10**500),
    *("", "\ud800", "../1.jpg", "<region 0>", "\x00", "x" * 70_000),
    *([], {}, [[]], [None], [[[[]]]], {"size": [48, 64], "counts": "####"}),
)


def _nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or object with each of its keys."""
    pairs = list(enumerate(value)) if isinstance(value, list) else []
    pairs += list(value.items()) if isinstance(value, dict) else []
    for key, one in pairs:
        yield value, key
        yield from _nodes(one)


def _write(folder: Path, name: str, content: Any) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = content if path.suffix == ".jsonl" and isinstance(content, list) else [content]
    path.write_text("\n".join(json.dumps(line) for line in lines))


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Give a folder with the pictures that all files mean."""
    for name in ("1.jpg", "000000000001.jpg", "COCO_val_000000000001.jpg", "s/1/1.jpg"):
        picture(tmp_path / name)
        picture(tmp_path / "images" / name)
    colours = np.zeros((48, 64, 3), np.uint8)
    colours[:, :, 0] = 1
    colours[20:, :, 0] = 2
    levels(tmp_path / "segments.png", colours)
    levels(tmp_path / "grey.png", colours[:, :, 0])
    return tmp_path


@pytest.mark.parametrize("name", sorted(_FILES))
def test_a_field_that_is_damaged_is_a_problem_and_never_an_error(world: Path, name: str) -> None:
    opener, files = _FILES[name]
    for file, content in files.items():
        _write(world, file, content)
    assert any(reading.sample for reading in collect(opener(world)).values())
    dice = random.Random(name)  # noqa: S311
    for file, content in files.items():
        for number in range(len(list(_nodes(content)))):
            damaged = copy.deepcopy(content)
            holder, key = list(_nodes(damaged))[number]
            if dice.random() < 0.2:
                del holder[key]
            else:
                holder[key] = dice.choice(_WRONG)
            _write(world, file, damaged)
            try:
                source = opener(world)
                readings = collect(source)
            except (AnnotationError, UnicodeEncodeError):
                # the whole file is none, or the engine refuses what cannot be written
                continue
            assert all(reading.sample or reading.problems for reading in readings.values())
        _write(world, file, content)
