"""What is known of each saved frame: a row of text beside the file, written after the frame counts."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO

from lowdose.live.output.growing import write_at


@dataclass(frozen=True)
class Row:
    """frame: its place in the file. sequence: counted from 0. number: as its source counts in the sequence.

    lost_before: how many numbers are missing between this frame and the one before it in its sequence.
    arrived: by this computer's clock, ISO 8601 in UTC. detector_time: by the detector's, as it came. latency_ms: from
    arrival to result, by a clock that does not jump; empty for raw frames. origin: the file that a frame came in, and
    its place there. note: what else is to be known of it.
    """

    frame: int
    sequence: int
    number: int
    lost_before: int
    arrived: str
    detector_time: str
    latency_ms: str
    origin: str
    note: str
    model: str


def iso_time(unix_ns: int) -> str:
    """Microseconds in UTC: 2026-11-20T12:00:00.123456Z."""
    seconds, rest_ns = divmod(unix_ns, 10**9)
    whole = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{rest_ns // 1000:06d}Z"


class Record:
    """FILE.frames.csv, a row per frame, each written in one piece."""

    def __init__(self, path: Path) -> None:
        self.path = record_path(path)
        self._file: BinaryIO = self.path.open("wb", buffering=0)
        self._end = 0
        self._write([field.name for field in fields(Row)])

    def add(self, row: Row) -> None:
        self._write(list(astuple(row)))

    def _write(self, values: list[object]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        data = line.getvalue().encode()
        write_at(self._file, self._end, data)
        self._end += len(data)

    def close(self) -> None:
        with suppress(OSError):
            self._file.close()


def record_path(path: Path) -> Path:
    """Where the rows of a file stand."""
    return path.with_name(path.name + ".frames.csv")


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a record by name; of a last line that was cut off nothing."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        complete = (line for line in file if line.endswith("\n"))
        for row in csv.DictReader(complete):
            if None not in row.values():
                yield row
