import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated import bytes_of
from command import Run
from PIL import Image

from deixis.data.salient import (
    Cutout,
    EndpointCaptioner,
    FolderCaptioner,
    ModelCaptioner,
    SalientPlan,
    build_salient,
    clean,
    cut_out,
    tag_of,
)
from deixis.data.salient.endpoint import KEY_VARIABLE, MAX_ANSWER_BYTES, Endpoint
from deixis.data.sources import open_source
from deixis.errors import CheckpointError, DeixisError, GeometryError, RecipeError
from deixis.geometry import Box, ImageSize, Mask
from deixis.structures import Answer, GroundedText, ImageArray


@dataclass
class Painter:
    """Names the colour in the middle of the cut-out; keeps its ``calls``."""

    record: dict[str, str] = field(default_factory=lambda: {"name": "painter"})
    calls: list[int] = field(default_factory=list)

    def describe(self, cutouts: Sequence[Cutout], /) -> list[str]:
        self.calls.append(len(cutouts))
        return [self.words(cutout.cropped()) for cutout in cutouts]

    def words(self, image: ImageArray) -> str:
        red, green, _ = image[image.shape[0] // 2, image.shape[1] // 2].tolist()
        if red == green:
            return ""
        name = "red ball" if red > green else "green leaf"
        return f"a photo of a {name} on a gray background"


def read(path: Path) -> ImageArray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of pictures and masks: four show a ball or a leaf, one is empty."""
    folder = tmp_path / "photos"
    colors = [(200, 30, 30), (30, 200, 30), (200, 30, 30), (30, 200, 30), (60, 60, 60)]
    for place in ("images", "masks"):
        (folder / place).mkdir(parents=True)
    for number, color in enumerate(colors):
        picture = np.full((40, 60, 3), 250, np.uint8)
        mask = np.zeros((40, 60), np.uint8)
        picture[10:30, 20 + number : 44] = color
        mask[10:30, 20 + number : 44] = 255
        Image.fromarray(picture).save(folder / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
    return folder


def plan_of(photos: Path, **options: Any) -> SalientPlan:
    spec = f"saliency:{photos}"
    return SalientPlan((open_source(spec),), {"name": "painter"}, **{"batch_size": 2} | options)


def test_the_background_of_a_cut_out_becomes_grey() -> None:
    image = np.arange(40 * 60 * 3, dtype=np.uint32).astype(np.uint8).reshape(40, 60, 3)
    array = np.zeros((40, 60), bool)
    array[10:20, 30:50] = True
    cutout = cut_out(image, Mask(array))
    assert cutout.box == Box(30, 10, 50, 20)
    assert (cutout.image[array] == image[array]).all()
    assert (cutout.image[~array] == 128).all()
    assert cutout.cropped().shape == (14, 24, 3)
    with pytest.raises(GeometryError, match="empty"):
        cut_out(image, Mask(np.zeros((40, 60), bool)))
    with pytest.raises(GeometryError, match="expected the image's size 60x40"):
        cut_out(image, Mask(np.ones((4, 6), bool)))


@pytest.mark.parametrize(
    ("said", "cleaned", "tag"),
    [
        ("a close up of a brown dog on a gray background", "A brown dog.", "brown dog"),
        ("The image shows a cup with a handle.", "A cup with a handle.", "cup"),
        ("There is a man sitting on a chair.", "A man sitting on a chair.", "man"),
        ("A red ball. It is round.", "A red ball. It is round.", "red ball"),
        ("A TV against a plain grey backdrop", "A TV.", "TV"),
        ("  ", "", ""),
        ("on a gray background", "", ""),
        ("a\x00b", "", ""),
    ],
)
def test_a_description_gives_a_tag_by_rules(said: str, cleaned: str, tag: str) -> None:
    assert clean(said) == cleaned
    assert tag_of(said) == tag


def test_a_mask_becomes_a_salient_turn(photos: Path, tmp_path: Path, deixis: Run) -> None:
    result = build_salient(plan_of(photos), tmp_path / "out", Painter(), read=read)
    assert result.manifest["sources"]["saliency"]["image_fates"] == {
        "described": 4,
        "no_description": 1,
    }
    lines = (tmp_path / "out" / "data" / "saliency.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert [thing["category"] for thing in first["objects"]] == ["red ball"]
    (question,) = first["questions"]
    assert question["answer"] == "A red ball."
    assert question["provenance"]["described_by"] == {"name": "painter"}
    assert question["provenance"]["said"] == "a photo of a red ball on a gray background"
    assert question["provenance"]["annotated_class"] == "salient object"
    spec = f"jsonl:{tmp_path}/out/data/saliency.jsonl,images={photos}/images"
    built = tmp_path / "built"
    ended = deixis("data", "build", "salient", "--source", spec, "--workers", 1, "--out", built)
    assert ended.code == 0
    from deixis.data.build import BuiltDataset  # noqa: PLC0415

    dataset = BuiltDataset(built)
    assert len(dataset) == 4
    (turn,) = dataset[0].turns
    assert turn.answer is not None
    assert turn.answer.text == "The red ball. A red ball."
    (phrase,) = turn.answer.phrases
    assert phrase.text == "red ball"
    assert phrase.boxes == (Box(20, 10, 44, 30),)
    assert phrase.masks[0].area == 24 * 20


def test_an_interrupted_run_continues_with_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    build_salient(plan_of(photos), tmp_path / "whole", Painter(), read=read)
    out = tmp_path / "out"

    class Ended(Exception):  # noqa: N818
        pass

    class Impatient(Painter):
        def describe(self, cutouts: Sequence[Cutout], /) -> list[str]:
            if self.calls:
                raise Ended
            return super().describe(cutouts)

    with pytest.raises(Ended):
        build_salient(plan_of(photos), out, Impatient(), read=read)
    with (out / ".build" / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"image":2,')
    again = Painter()
    build_salient(plan_of(photos), out, again, read=read)
    assert again.calls == [2, 1]
    assert bytes_of(out) == bytes_of(tmp_path / "whole")
    with pytest.raises(RecipeError, match="holds the output of another plan"):
        build_salient(plan_of(photos, limit=2), out, Painter(), read=read)


def test_without_a_subject_nothing_is_described(tmp_path: Path) -> None:
    spec = "scenes:train,count=30,seed=31337"
    plan = SalientPlan((open_source(spec),), {"name": "painter"})
    result = build_salient(plan, tmp_path / "out", Painter(), read=read)
    fates = result.manifest["sources"]["scenes"]["image_fates"]
    assert fates["no_subject"] > 0 < fates["described"]
    assert sum(fates.values()) == 30


class Speaking:
    """Returns the questions as answers."""

    def ask_many(self, questions: Any, /) -> list[Answer]:
        return [
            Answer(GroundedText(f"{image.shape} {parts}"), ImageSize(*image.shape[:2]))
            for image, parts in questions
        ]


def a_cutout() -> Cutout:
    array = np.zeros((40, 60), bool)
    array[10:20, 30:50] = True
    return cut_out(np.full((40, 60, 3), 7, np.uint8), Mask(array))


def test_a_deixis_model_is_asked_about_the_box_or_about_the_crop() -> None:
    (said,) = ModelCaptioner(Speaking(), {"name": "one"}).describe([a_cutout()])
    assert said.startswith("(40, 60, 3) ('What is ', Box(x1=30.0, y1=10.0")
    (said,) = ModelCaptioner(Speaking(), {"name": "one"}, "Describe it.").describe([a_cutout()])
    assert said == "(14, 24, 3) ('Describe it.',)"


def test_a_captioner_of_transformers_is_loaded_from_its_folder(tmp_path: Path) -> None:
    from transformers import (  # noqa: PLC0415
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    config = BlipConfig(
        text_config={
            **small,
            "vocab_size": 13,
            "encoder_hidden_size": 16,
            "projection_dim": 16,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "sep_token_id": 3,
            "pad_token_id": 0,
        },
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    folder = tmp_path / "blip"
    BlipForConditionalGeneration(config).save_pretrained(folder)
    image_processor = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(image_processor, tokenizer).save_pretrained(folder)
    captioner = FolderCaptioner(folder)
    said = captioner.describe([a_cutout(), a_cutout()])
    assert len(said) == 2
    assert said[0] == said[1]
    assert captioner.record["class"] == "BlipForConditionalGeneration"
    with pytest.raises(CheckpointError, match="captioner"):
        FolderCaptioner(tmp_path / "nothing").describe([a_cutout()])


@dataclass
class Served:
    """The requests to an endpoint, and its answers: status, headers and body."""

    url: str
    answers: list[tuple[int, dict[str, str], bytes]]
    asked: list[tuple[str, str | None, dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def served() -> Iterator[Served]:
    """Start an endpoint on this machine."""
    state = Served("", [])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append((self.path, self.headers["Authorization"], body))
            status, headers, answer = state.answers.pop(0)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def said(text: str | None) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def test_an_endpoint_is_sent_the_crop_and_the_key(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "a secret")
    served.answers += [(503, {}, b""), said("A cup."), said(None)]
    captioner = EndpointCaptioner(Endpoint(served.url, "large", pause=0.01), "What is it?")
    assert captioner.describe([a_cutout(), a_cutout()]) == ["A cup.", ""]
    path, key, body = served.asked[1]
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer a secret", "large")
    words, picture = body["messages"][0]["content"]
    assert words == {"type": "text", "text": "What is it?"}
    assert picture["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert "a secret" not in str(captioner.record)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {}, b"no"), "answered 401"),
        ((302, {"Location": "http://127.0.0.1:9/elsewhere"}, b""), "answered 302"),
        ((200, {}, b"{"), "the answer cannot be read"),
        ((200, {}, b'{"choices": []}'), "the answer cannot be read"),
        ((200, {}, b'{"choices": [{"message": {"content": [1]}}]}'), "the answer cannot be read"),
        ((200, {}, b" " * (MAX_ANSWER_BYTES + 1)), "more than 1048576 bytes"),
        ((500, {}, b""), "answered 500"),
    ],
)
def test_a_bad_answer_of_an_endpoint_is_an_error(
    served: Served, answer: tuple[int, dict[str, str], bytes], words: str
) -> None:
    served.answers += [answer] * 2
    endpoint = Endpoint(served.url, "large", attempts=2, pause=0.01, timeout=5)
    with pytest.raises(DeixisError, match=words):
        endpoint.ask(np.zeros((4, 4, 3), np.uint8), "What is it?")


def test_an_unreachable_endpoint_is_an_error() -> None:
    endpoint = Endpoint("http://127.0.0.1:9/v1", "large", attempts=1, timeout=2)
    with pytest.raises(DeixisError, match="does not answer"):
        endpoint.ask(np.zeros((4, 4, 3), np.uint8), "What is it?")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/v1", "http://", "http://me:key@host/v1", "host/v1"]
)
def test_an_invalid_address_is_refused(url: str) -> None:
    with pytest.raises(RecipeError, match="endpoint"):
        Endpoint(url, "large")


def test_a_key_is_not_sent_over_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "a secret")
    with pytest.raises(RecipeError, match="https only"):
        Endpoint("http://192.0.2.1/v1", "large", timeout=1).ask(
            np.zeros((4, 4, 3), np.uint8), "What is it?"
        )


@pytest.mark.slow
def test_the_command_describes_with_the_shipped_model(deixis: Run, tmp_path: Path) -> None:
    ended = deixis(
        *("data", "salient", "--source", "scenes:train,count=8,seed=31337,level=plain"),
        *("--captioner", "deixis:scenes-tiny", "--out", tmp_path / "out"),
    )
    assert ended.code == 0
    kept = next(one for one in ended.err.splitlines() if one.startswith("kept: "))
    spec = kept.removeprefix("kept: ")
    built = tmp_path / "built"
    assert deixis("data", "build", "salient", "--source", spec, "--out", built).code == 0


@pytest.mark.parametrize("captioner", ["nothing", "hf:", "openai:http://localhost/v1"])
def test_the_command_refuses_an_unknown_captioner(
    deixis: Run, tmp_path: Path, captioner: str
) -> None:
    source = ["--source", "scenes:train,count=1"]
    ended = deixis("data", "salient", *source, "--captioner", captioner, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "expected" in ended.err
    assert list(tmp_path.iterdir()) == []
