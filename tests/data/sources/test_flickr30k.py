from pathlib import Path

import pytest
from data.sources.reading import codes, collect, notes, samples
from hypothesis import given
from hypothesis import strategies as st

from deixis.data.scenes import draw_scene, scene_sample
from deixis.data.scenes.export import write_scenes
from deixis.data.sources.base import BadRecord
from deixis.data.sources.flickr30k import open_flickr30k, parse_sentence
from deixis.errors import AnnotationError
from deixis.geometry import Box, ImageSize

BOX = Box(0, 0, 5, 5)


def _object(names: str, box: tuple[object, ...] | None = (2, 3, 10, 8)) -> str:
    named = "".join(f"<name>{name}</name>" for name in names.split())
    if box is None:
        return f"<object>{named}<scene>1</scene><nobndbox>1</nobndbox></object>"
    tags = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    corners = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    return f"<object>{named}<bndbox>{corners}</bndbox></object>"


def _write(root: Path, sentences: str, *objects: str, key: str = "36979") -> Path:
    for name in ("Annotations", "Sentences", "flickr30k-images"):
        (root / name).mkdir(parents=True, exist_ok=True)
    size = "<size><width>20</width><height>10</height><depth>3</depth></size>"
    xml = f"<annotation><filename>{key}.jpg</filename>{size}{''.join(objects)}</annotation>"
    (root / "Annotations" / f"{key}.xml").write_text(xml)
    (root / "Sentences" / f"{key}.txt").write_text(sentences)
    return root


@pytest.mark.parametrize("level", ["plain", "hard"])
def test_drawn_scenes_read_back_with_all_phrases_and_boxes(tmp_path: Path, level: str) -> None:
    write_scenes(tmp_path, split="val", count=6, format="flickr30k", level=level, seed=5)
    found = samples(open_flickr30k(tmp_path, split="val"))
    assert len(found) == 6
    for index in range(6):
        drawn = scene_sample(draw_scene(5, index, level=level, split="val"))
        read = found[str(index + 1)]
        assert read.size == drawn.size
        assert read.image == tmp_path / "flickr30k-images" / f"{index + 1}.png"
        assert [one.text for one in read.captions] == [one.text for one in drawn.captions]
        for mine, theirs in zip(read.captions, drawn.captions, strict=True):
            assert [(p.text, p.start, p.end, p.boxes) for p in mine.phrases] == [
                (p.text, p.start, p.end, p.boxes) for p in theirs.phrases
            ]
        assert (read.split, read.exhaustive, read.instances) == ("val", False, ())


def test_a_published_sentence_is_read_as_published(tmp_path: Path) -> None:
    line = (
        "[/EN#283585/people A man] with [/EN#283586/bodyparts pierced ears] is wearing "
        "[/EN#283587/clothing/other glasses] near [/EN#0/notvisual it] in [/EN#283588/scene a room] .\n"
    )
    _write(
        tmp_path,
        line + "\n" + "A plain [sic] caption ] .\n",
        _object("283585", (1, 1, 20, 10)),
        _object("283586 283587", (2, 3, 10, 8)),
        _object("283586", (5, 5, 6, 6)),
        _object("283588", None),
    )
    readings = collect(open_flickr30k(tmp_path))
    sample = readings["36979"].sample
    assert sample is not None
    first, second = sample.captions
    assert first.text == "A man with pierced ears is wearing glasses near it in a room ."
    assert [(phrase.text, phrase.boxes) for phrase in first.phrases] == [
        ("A man", (Box(0, 0, 20, 10),)),
        ("pierced ears", (Box(1, 2, 10, 8), Box(4, 4, 6, 6))),
        ("glasses", (Box(1, 2, 10, 8),)),
    ]
    assert second.text == "A plain [sic] caption ] ."
    assert notes(readings) == {"phrase_without_box": 2}
    assert codes(readings) == {}
    assert sample.size == ImageSize(10, 20)


WORDS = st.text(
    st.characters(exclude_characters="[]\x00", exclude_categories=["Cs", "Cc"]), max_size=8
)


@given(pieces=st.lists(st.tuples(WORDS, WORDS, st.integers(0, 3)), max_size=6), end=WORDS)
def test_spans_are_those_that_were_written(pieces: list[tuple[str, str, int]], end: str) -> None:
    line, text = "", ""
    expected: list[tuple[str, int]] = []
    for before, phrase, chain in pieces:
        words = phrase.strip()
        line += before
        text += before
        if words:
            line += f"[/EN#{chain}/people/other {phrase}]"
            if chain:
                expected.append((words, len(text)))
            text += words
    line, text = line + end, text + end
    if not text.strip():
        return
    # blanks before the line are taken off, and move what follows
    shift = len(text) - len(text.lstrip())
    made = parse_sentence(line, {str(chain): [BOX] for chain in (1, 2, 3)}, {})
    assert [(phrase.text, phrase.start) for phrase in made.phrases] == [
        (words, start - shift) for words, start in expected
    ]
    for one in made.phrases:
        assert made.text[one.start : one.end] == one.text
        assert one.boxes == (BOX,)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("[/EN#1/people A man", "span_damaged"),
        ("[/EN#1/people ]", "span_damaged"),
        ("[/EN#1 A man]", "span_damaged"),
        ("[/EN#x/people A man]", "span_damaged"),
        ("[/EN#1/people A [/EN#2/people man]]", "span_damaged"),
        ("a\x00b", "bad_text"),
        ("\udcff", "bad_encoding"),
        ("x" * 70_000, "bad_text"),
    ],
)
def test_a_damaged_sentence_is_refused(line: str, code: str) -> None:
    with pytest.raises(BadRecord) as caught:
        parse_sentence(line, {"1": [BOX]}, {})
    assert caught.value.code == code


def test_a_damaged_sentence_leaves_the_others(tmp_path: Path) -> None:
    _write(tmp_path, "one\n[/EN#1/people two\nthree\n")
    readings = collect(open_flickr30k(tmp_path))
    assert codes(readings) == {"span_damaged": 1}
    assert readings["36979"].problems[0].place == "36979.txt: line 2"
    sample = readings["36979"].sample
    assert sample is not None
    assert [caption.text for caption in sample.captions] == ["one", "three"]


@pytest.mark.parametrize(
    ("thing", "code"),
    [
        (_object("7", (5, 5, 4, 9)), "box_degenerate"),
        (_object("7", (1, 1, 99, 9)), "box_outside"),
        (_object("7", ("nan", 1, 9, 9)), "bad_number"),
        (_object("", (1, 1, 9, 9)), "bad_record"),
        (_object("seven", (1, 1, 9, 9)), "bad_record"),
    ],
)
def test_a_damaged_box_takes_its_chain_with_it(tmp_path: Path, thing: str, code: str) -> None:
    _write(
        tmp_path,
        "[/EN#7/people A man] and [/EN#8/people a dog]",
        _object("7 8"),
        thing,
        _object("8"),
    )
    readings = collect(open_flickr30k(tmp_path))
    assert codes(readings) == {code: 1}
    sample = readings["36979"].sample
    assert sample is not None
    phrases = [phrase.text for phrase in sample.captions[0].phrases]
    assert phrases == (["A man", "a dog"] if "7" not in thing else ["a dog"])


def test_unrelated_captions_are_left_out_and_counted(tmp_path: Path) -> None:
    _write(tmp_path, "one\ntwo\n")
    _write(tmp_path, "other\n", key="5")
    (tmp_path / "UNRELATED_CAPTIONS").write_text("# format\n36979 2\n77 1\n")
    readings = collect(open_flickr30k(tmp_path))
    sample = readings["36979"].sample
    assert sample is not None
    assert [caption.text for caption in sample.captions] == ["one"]
    assert notes(readings) == {"unrelated_caption": 1}
    assert sorted(readings) == ["36979", "5"]


def test_missing_and_hostile_names_are_problems(tmp_path: Path) -> None:
    _write(tmp_path, "one\n")
    _write(tmp_path, "one\n", key="5")
    (tmp_path / "Annotations" / "5.xml").unlink()
    (tmp_path / "val.txt").write_text("36979\n36979\n5\n404\n../x\n")
    readings = collect(open_flickr30k(tmp_path, split="val"))
    assert codes(readings) == {"duplicate_image": 1, "unknown_annotation": 3, "path_escape": 1}
    assert all(reading.sample is None for reading in readings.values())


def test_invalid_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="Annotations: does not exist"):
        open_flickr30k(tmp_path)
    _write(tmp_path, "one")
    (tmp_path / "test.txt").write_text("36979")
    for split in ("", "train"):
        with pytest.raises(AnnotationError, match=r"has splits \['test'\]; say which"):
            open_flickr30k(tmp_path, split=split)
    (tmp_path / "UNRELATED_CAPTIONS").write_text("36979\n")
    with pytest.raises(AnnotationError, match="expected PICTURE NUMBER"):
        collect(open_flickr30k(tmp_path, split="test"))
