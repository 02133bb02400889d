"""Build many lines with and without hostile lines, and compare the data sets.

Run by a test in a process of its own: type checks at run time would take most of the time.
"""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from annotated import line, plan_of

from deixis.data.build import Budget, BuiltDataset, build, verify

EACH = 3
"""Number of hostile lines of each kind."""


def hostile(number: int) -> Iterator[tuple[str | None, str]]:
    """Yield a line of every kind with its quarantine code; None if the line is accepted."""

    def of(box: Any = None, mask: Any = None, **changes: Any) -> str:
        thing = {"category": "cat", "box": box or [1, 2, 30, 40]}
        if mask is not None:
            thing["mask"] = mask
        fields = {"objects": [thing], "expressions": [], "questions": [], "relations": []}
        return json.dumps(line(number, **(fields | changes)))

    rle = {"size": [100, 200], "counts": [0, 20000]}
    yield "bad_number", of().replace("[1, 2, 30, 40]", "[1, 2, 1e999, 40]")
    yield "bad_number", of().replace("[1, 2, 30, 40]", "[1, 2, Infinity, 40]")
    yield "bad_number", of(["1", 2, 30, 40])
    yield "bad_number", of([True, 2, 30, 40])
    yield "bad_number", of([None, 2, 30, 40])
    yield "box_degenerate", of([30, 2, 1, 40])
    yield "box_degenerate", of([30, 2, 30, 40])
    yield None, of([1, 2, 200.9, 40])
    yield "box_outside", of([500, 500, 600, 600])
    yield "box_layout", of([0.1, 0.2, 0.5, 0.6])
    yield "mask_damaged", of(mask=[[1, 2, 3, 1e308, 5, 6]])
    yield "mask_damaged", of(mask=[[1, 2, 3, 4]])
    yield "mask_damaged", of(mask=[[1, 2, 3, 4, 5, 6, 7]])
    yield "mask_damaged", of(mask={**rle, "counts": [0, 20001]})
    yield "mask_damaged", of(mask={**rle, "counts": [-5, 20005]})
    yield "mask_damaged", of(mask={**rle, "size": [100000, 100000]})
    yield "bad_encoding", of(captions=["half \ud800 pair"])
    yield None, of(captions=["a literal <REF> </Phrase> <image> [VPT] <|im_end|>"])
    yield "bad_json", of().replace("[1, 2, 30, 40]", "[" * 100_000)
    yield "bad_number", of().replace("[1, 2, 30, 40]", "[1, 2, " + "9" * 5000 + ", 40]")
    for name in ("../../etc/passwd", "/etc/passwd", "C:\\boot.ini", "x" * 4096, "."):
        yield "path_escape", of(image=name)
    yield "bad_text", of(image="a\0b.png")
    yield "bad_json", of()[: number % 40 + 20]
    yield "bad_record", "[]"
    yield "bad_record", of(surprise=1)
    yield "bad_number", of(width=-5)
    yield "unknown_annotation", of(expressions=[{"text": "it", "objects": [77]}])


def main(folder: Path, count: int) -> None:
    """Build both data sets, compare them and print the result."""
    good = [json.dumps(line(number)) for number in range(count)]
    (folder / "clean.jsonl").write_text("\n".join(good) + "\n")
    kinds = [code for code, _ in hostile(0)]
    bad = [text for step in range(EACH) for _, text in hostile(count + 1 + step)]
    # each hostile line is a separate image; the other images are good
    every = count // len(bad)
    bad = [
        text.replace(f"image-{count + 1 + at // len(kinds):06d}", f"image-{at * every:06d}x")
        for at, text in enumerate(bad)
    ]
    with (folder / "mixed.jsonl").open("w") as file:
        for number, text in enumerate(good):
            file.write(text + "\n")
            if number % every == 0 and number // every < len(bad):
                file.write(bad[number // every] + "\n")
    for name in ("clean", "mixed"):
        plan = plan_of(
            f"jsonl:{folder / name}.jsonl,name=lines", tasks="rec,caption*0.5", shard_images=500
        )
        build(plan, folder / name, workers=2, budget=Budget(share=0.02))
        verify(folder / name)

    def digest(name: str) -> tuple[str, int]:
        made, rows = hashlib.sha256(), 0
        for row in BuiltDataset(folder / name).rows():
            if not row["id"].split("/")[1].endswith("x"):
                made.update(json.dumps(row, sort_keys=True, default=str).encode())
                rows += 1
        return made.hexdigest(), rows

    table = pq.read_table(folder / "mixed" / "quarantine.parquet").to_pylist()
    found = Counter(row["code"] for row in table)
    expected = Counter(code for code in kinds for _ in range(EACH) if code is not None)
    source = BuiltDataset(folder / "mixed").manifest["sources"]["lines"]
    clean = digest("clean")
    print(  # noqa: T201
        json.dumps(
            {
                "same": clean == digest("mixed"),
                "rows": clean[1],
                "found": dict(found),
                "expected": dict(expected),
                "source": {name: one for name, one in source.items() if isinstance(one, int)}
                | {"filtered": sum(source["filtered"].values())},
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
