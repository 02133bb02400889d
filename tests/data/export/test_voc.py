from pathlib import Path

from data.export.exported import export, scene_samples, scenes
from data.sources.pictures import picture
from data.sources.reading import samples, write_lines

from deixis.data.sources.jsonl import JsonLines, open_jsonl
from deixis.data.sources.voc import open_voc
from deixis.geometry import Box


def _lines(root: Path, *objects: object, names: tuple[str, ...] = ("a.png",)) -> JsonLines:
    for name in names:
        picture(root / name)
    lines = [
        {"image": name, "objects": list(objects), "split": f"part_{number}"}
        for number, name in enumerate(names)
    ]
    return open_jsonl(write_lines(root / "a.jsonl", lines))


def test_boxes_read_back_unchanged(tmp_path: Path) -> None:
    true = scene_samples(scenes(6))
    done = export(tmp_path, "voc", scenes(6))
    found = samples(open_voc(done.folder, split="val"))
    assert len(found) == 6
    for number, sample in enumerate(true):
        other = found[f"{number:09d}"]
        assert [(one.category, one.box) for one in other.instances] == [
            (one.category, one.box) for one in sample.instances
        ]
        assert (other.size, other.split) == (sample.size, "val")
        assert isinstance(other.image, Path)
        assert other.image.is_file()
    assert done.report.not_carried["masks"] > 0


def test_coordinates_follow_voc(tmp_path: Path) -> None:
    box = {"category": "R&D <dog>", "box": [0, 0, 1, 1.5]}
    flagged = {"category": "cat", "box": [1, 2, 3, 4], "attributes": ["truncated", "red"]}
    crowd = {"category": "cat", "box": [1, 2, 30, 40], "crowd": True}
    done = export(tmp_path / "out", "voc", _lines(tmp_path / "in", box, flagged, crowd))
    text = (done.folder / "Annotations" / "a.xml").read_text()
    assert "<xmin>1</xmin>" in text
    assert "<ymax>1.5</ymax>" in text
    assert (done.folder / "ImageSets" / "Main" / "part-0.txt").read_text() == "a\n"
    first, second = samples(open_voc(done.folder, split="part-0"))["a"].instances
    assert (first.category, first.box) == ("R&D <dog>", Box(0, 0, 1, 1.5))
    assert second.attributes == ("truncated",)
    lost = done.report.not_carried
    assert (lost["crowds"], lost["attributes"], lost["crowd flags"]) == (1, 1, 0)


def test_pictures_with_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    source = _lines(tmp_path / "in", names=("x/a.png", "x_a.jpg"))
    done = export(tmp_path / "out", "voc", source)
    stems = sorted(path.stem for path in (done.folder / "Annotations").iterdir())
    assert len(stems) == len({path.stem for path in (done.folder / "JPEGImages").iterdir()}) == 2
    assert sorted(path.name for path in (done.folder / "ImageSets" / "Main").iterdir()) == [
        "part-0.txt",
        "part-1.txt",
    ]


def test_a_class_that_xml_cannot_hold_is_quarantined(tmp_path: Path) -> None:
    source = _lines(tmp_path / "in", {"category": "a\x01b", "box": [1, 1, 9, 9]})
    done = export(tmp_path / "out", "voc", source, budget=1.0)
    assert [line["detail"] for line in done.quarantine] == [
        "class 'a\\x01b': has a character that XML cannot hold"
    ]
    assert not list((done.folder / "JPEGImages").iterdir())
    assert (done.folder / "ImageSets" / "Main" / "all.txt").read_text() == ""
