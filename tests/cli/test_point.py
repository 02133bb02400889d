"""``deixis point``: questions about all kinds of images, and refused input."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from moving import numbered, write_gif
from PIL import Image
from skimage import data as photographs
from tiny import tiny_model

from deixis.models.vision.video import VIDEO_PRESETS


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.full((60, 80, 3), 200, np.uint8)).save(path)
    return path


def test_an_answer_is_text_on_stdout_and_an_overlay(
    deixis: Run, tiny_folder: Path, picture: Path, tmp_path: Path
) -> None:
    out = tmp_path / "overlay.png"
    ended = deixis("point", picture, "Where is it?", "--model", tiny_folder, "--out", out)
    assert ended.code == 0
    assert ended.out.strip()
    assert f"overlay: {out}" in ended.err
    with Image.open(out) as overlay:
        assert overlay.width >= 512
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overlay.png", "picture.png"]


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp"])
def test_the_overlay_has_the_format_of_its_name(
    deixis: Run, tiny_folder: Path, picture: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    assert deixis("point", picture, "Where?", "--model", tiny_folder, "--out", out).code == 0
    with Image.open(out) as overlay:
        assert overlay.format == ("WEBP" if name == "a.webp" else "JPEG")


def test_json_is_strict_and_names_the_frame(deixis: Run, tiny_folder: Path, picture: Path) -> None:
    ended = deixis("point", picture, "Where is it?", "--model", tiny_folder, "--json")
    answer = json.loads(ended.out, parse_constant=pytest.fail)
    assert answer["size"] == {"height": 60, "width": 80}
    assert answer["prompt"] == "Where is it?"
    assert {"text", "phrases", "problems", "finish_reason", "image", "model"} <= answer.keys()


@pytest.mark.parametrize(
    "options",
    [
        ["What is this?", "--box", "10,10,30,30"],
        ["What is {region} beside {region}?", "--box", "10,10,30,30", "--point", "5,5"],
        ["What?", "--scribble", "1,1,20,20@6", "--scribble", "3,3"],
        ["What is this?", "--box=-0.5,0,80.5,60"],
        ["Every star.", "--units", "box,mask"],
        ["{region} and <REF> are plain text without regions"],
    ],
)
def test_regions_and_units_are_accepted(
    deixis: Run, tiny_folder: Path, picture: Path, options: list[str]
) -> None:
    ended = deixis("point", picture, *options, "--model", tiny_folder, "--json")
    assert (ended.code, ended.err) == (0, "")


def test_a_mask_file_is_a_region(
    deixis: Run, tiny_folder: Path, picture: Path, tmp_path: Path
) -> None:
    mask = tmp_path / "mask.png"
    array = np.zeros((60, 80), np.uint8)
    array[10:20, 10:20] = 1
    Image.fromarray(array).save(mask)
    ended = deixis("point", picture, "What is this?", "--mask", mask, "--model", tiny_folder)
    assert ended.code == 0


def test_answers_about_photographs_use_upright_pixels(
    deixis: Run, tiny_folder: Path, tmp_path: Path
) -> None:
    array = photographs.astronaut()[:300]  # type: ignore[no-untyped-call]  # has no types
    photo = Image.fromarray(array)
    exif = Image.Exif()
    exif[0x0112] = 6
    files: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "turned.jpg": (photo, {"exif": exif}),
        "grey.png": (photo.convert("L"), {}),
        "cmyk.jpg": (photo.convert("CMYK"), {}),
        "alpha.png": (photo.convert("RGBA"), {}),
        "tall.bmp": (photo.resize((20, 700)), {}),
    }
    for name, (image, options) in files.items():
        path = tmp_path / name
        image.save(path, **options)
        ended = deixis("point", path, "Where is the face?", "--model", tiny_folder, "--json")
        width, height = (300, 512) if name == "turned.jpg" else image.size
        assert json.loads(ended.out)["size"] == {"height": height, "width": width}, name


@pytest.mark.shared_data
def test_real_photographs_are_answered(
    deixis: Run, tiny_folder: Path, shared_data: Path, tmp_path: Path
) -> None:
    files = sorted((shared_data / "photos" / "images" / "val").glob("*.jpg"))
    for file in files[:3]:
        out = tmp_path / "out.png"
        ended = deixis("point", file, "the dog", "--model", tiny_folder, "--out", out, "--json")
        answer = json.loads(ended.out)
        with Image.open(file) as image, Image.open(out) as overlay:
            assert (answer["size"]["width"], answer["size"]["height"]) == image.size
            assert overlay.width == max(image.width, 512)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.png", "Where?"], 2, "image missing.png: no such file, expected"),
        ([".", "Where?"], 2, "image .: is a directory, expected"),
        (["{picture}", ""], 2, "prompt is empty, expected a question"),
        (["{picture}", " \n"], 2, "prompt is empty, expected a question"),
        (
            ["{picture}", "x" * 40_000, "--model", "{model}"],
            2,
            "prompt has 40000 characters; expected at most",
        ),
        (["{picture}", "Where?", "--model", "nope"], 2, "unknown model 'nope'; expected"),
        (["{picture}", "Where?", "--model", "."], 2, "folder without config.json; expected"),
        (["{picture}", "x", "--box", "nan,1,2,3"], 2, "--box 'nan,1,2,3': expected finite numbers"),
        (["{picture}", "x", "--box", "1,2,3"], 2, "--box '1,2,3': expected x1,y1,x2,y2, got 3"),
        (["{picture}", "x", "--box", "a,b,c,d"], 2, "--box 'a,b,c,d': expected x1,y1,x2,y2"),
        (["{picture}", "x", "--box", "1,1,900,9"], 2, "does not fit a 80x60 image"),
        (["{picture}", "x", "--box", "100,1,120,9"], 2, "does not fit a 80x60 image"),
        (["{picture}", "x", "--box", "9,1,3,9"], 2, "expected x2 > x1, got 3.0 and 9.0"),
        (["{picture}", "x", "--point", "81,1"], 2, "point (81.0, 1.0) lies outside a 80x60 image"),
        (["{picture}", "x", "--point", "1"], 2, "--point '1': expected x,y, got 1 numbers"),
        (["{picture}", "x", "--scribble", "1,2,3"], 2, "--scribble '1,2,3': expected x,y,x,y"),
        (["{picture}", "x", "--scribble", "1,2@"], 2, "--scribble '1,2@': expected"),
        (["{picture}", "x", "--scribble", "1,2@0"], 2, "scribble width: expected more than 0"),
        (["{picture}", "x", "--scribble", "900,900"], 2, "lies wholly outside a 80x60 image"),
        (["{picture}", "x", "--mask", "missing.png"], 2, "image missing.png: no such file"),
        (["{picture}", "x", "--mask", "{small}"], 2, "is 8x8, expected the image's 80x60"),
        (["{picture}", "x", "--mask", "{black}"], 2, "all pixels are black, expected a region"),
        (["{picture}", "{region}", "--point", "1,1", "--point", "2,2"], 2, "1 times, expected 2"),
        (["{picture}", "x", *["--point", "1,1"] * 65], 2, "65 regions given, expected at most 64"),
        (["{picture}", "x", "--out", "a.txt"], 2, "expected a name that ends in one of .png"),
        (["{picture}", "x", "--out", "no/folder/a.png"], 4, "does not exist"),
        (["{picture}", "x", "--out", "{picture}/a.png"], 4, "is not a folder"),
        (["{picture}", "x", "--nonsense"], 2, "--nonsense"),
        (["{picture}"], 2, "Missing argument"),
        (["{text}", "Where?"], 2, "not an image, expected JPEG, PNG, WebP, BMP, TIFF or AVIF"),
        (["{cut}", "Where?"], 2, "damaged"),
    ],
)
def test_invalid_input_is_a_one_line_error(
    deixis: Run,
    tiny_folder: Path,
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    names = {"picture": picture, "model": tiny_folder}
    names |= {name: tmp_path / f"{name}.png" for name in ("small", "black", "text", "cut")}
    Image.new("RGB", (8, 8), "white").save(names["small"])
    Image.new("RGB", (80, 60)).save(names["black"])
    names["text"].write_text("this is not a picture")
    names["cut"].write_bytes(picture.read_bytes()[:-20])
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    filled = [_fill(argument, names) for argument in arguments]
    ended = deixis("point", *filled)
    assert (ended.code, ended.out) == (code, "")
    first, *hints = ended.err.splitlines()
    assert first.startswith("deixis: ")
    assert words in first
    assert all(line.startswith("hint: ") for line in hints)
    assert sorted(tmp_path.iterdir()) == before


def _fill(argument: str, names: dict[str, Path]) -> str:
    for name, path in names.items():
        argument = argument.replace(f"{{{name}}}", str(path))
    return argument


def test_an_existing_overlay_survives_a_failure(deixis: Run, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"before")
    assert deixis("point", picture, "Where?", "--model", "nope", "--out", out).code == 2
    assert out.read_bytes() == b"before"


def test_a_video_is_accepted_by_models_that_take_videos(
    deixis: Run, tiny_folder: Path, tmp_path: Path
) -> None:
    clip = write_gif(tmp_path / "clip.gif", numbered(4))
    refused = deixis("point", clip, "What happens?", "--video", "--model", tiny_folder)
    assert refused.code == 2
    assert "this model does not take" in refused.err
    model, processor = tiny_model(tokens_from="encoder", video=asdict(VIDEO_PRESETS["paper"]))
    model.save_pretrained(tmp_path / "model")
    processor.save(tmp_path / "model")
    ended = deixis(
        "point", clip, "What happens?", "--video", "--model", tmp_path / "model", "--json"
    )
    assert ended.code == 0
    assert json.loads(ended.out)["size"] == {"height": 48, "width": 64}
