"""Checked reading of CSV tables, row by row."""

import csv
from collections.abc import Collection, Iterator
from pathlib import Path

from deixis.data.sources.base import BadRecord
from deixis.data.sources.reading.streaming import opened
from deixis.errors import AnnotationError

ROW_LIMIT = 2**24


def table_rows(
    path: Path, expected: Collection[str] = (), *, titles: list[str] | None = None
) -> Iterator[tuple[int, dict[str, str] | BadRecord]]:
    """Yield the number and the cells or the error of each row; the header is row 1.

    Args:
        path: The file; ``.gz`` is decompressed. A byte order mark is removed.
        expected: Columns that the header has to name.
        titles: The columns of a file without a header.

    Raises:
        AnnotationError: The file is missing, lacks the header or an expected column, or has a row of
            more than 16 MiB. A row cannot span several lines.
    """
    with opened(path) as file:
        number = 0
        while line := file.readline(ROW_LIMIT + 1):
            number += 1
            if len(line) > ROW_LIMIT:
                raise AnnotationError(f"{path}: row {number} has more than {ROW_LIMIT} bytes")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                cells = next(csv.reader([text], strict=True), [])
            except UnicodeDecodeError as error:
                yield number, BadRecord("bad_encoding", f"{error.reason} at byte {error.start}")
                continue
            except csv.Error as error:
                yield number, BadRecord("bad_record", f"no row of a table: {error}")
                continue
            if not any(cell.strip() for cell in cells):
                continue
            if titles is None:
                # older tools write the header as a comment
                titles = [cell.strip().removeprefix("#") for cell in cells]
                missing = sorted(set(expected) - set(titles))
                if missing or len(set(titles)) < len(titles):
                    raise AnnotationError(
                        f"{path}: expected columns {sorted(expected)}, got {titles[:20]}"
                    )
            elif len(cells) != len(titles):
                yield (
                    number,
                    BadRecord("bad_record", f"{len(cells)} cells, expected {len(titles)}"),
                )
            else:
                yield number, dict(zip(titles, (cell.strip() for cell in cells), strict=True))
    if titles is None:
        raise AnnotationError(f"{path}: expected columns {sorted(expected)}, got nothing")
