"""Saves frames in a thread of its own: a file, its record, and the next file where the frames change."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lowdose.errors import LowdoseError
from lowdose.io.calibration import Calibration
from lowdose.io.layout import SCAN_AXES
from lowdose.io.writer import StackSpec
from lowdose.live.output.growing import GrowingFile
from lowdose.live.output.hdf5 import GrowingHdf5
from lowdose.live.output.record import Record, Row, iso_time, read_rows, record_path
from lowdose.live.output.tiff import GrowingTiff
from lowdose.live.output.zarr import GrowingZarr
from lowdose.live.percentiles import Percentiles
from lowdose.live.policy import FrameQueue
from lowdose.source import Frame

_MAKERS: dict[str, type[GrowingFile]] = {
    ".h5": GrowingHdf5,
    ".hdf5": GrowingHdf5,
    ".emd": GrowingHdf5,
    ".nxs": GrowingHdf5,
    ".tif": GrowingTiff,
    ".tiff": GrowingTiff,
    ".zarr": GrowingZarr,
}
SUFFIXES = tuple(_MAKERS)


@dataclass(frozen=True)
class Saved:
    """A frame to save, with what its row says; scan: of the sequence that it belongs to."""

    pixels: Frame
    sequence: int
    number: int
    arrived_ns: int
    detector_time: str
    origin: str
    scan: tuple[int, int] | None = None
    calibration: Calibration = field(default_factory=Calibration)
    provenance: dict[str, Any] = field(default_factory=dict)
    latency_ms: float | None = None
    note: str = ""
    model: str = ""


class Recorder:
    """Saves what `put` brings under `path`; where frames change, and for each scan, in further files NAME-2, NAME-3 ...

    n_saved: frames that survive the end of this process. error: why nothing is saved any more, or None. files: theirs.
    """

    def __init__(
        self,
        path: Path,
        *,
        buffer_bytes: float,
        overwrite: bool = False,
        resume: bool = False,
    ) -> None:
        if path.suffix.lower() not in _MAKERS:
            raise LowdoseError(f"{path}: live frames are saved as {', '.join(SUFFIXES)}")
        if not path.parent.is_dir():
            raise LowdoseError(f"{path}: the folder {path.parent} does not exist")
        there = parts(path)
        if there and not resume and (not overwrite or any(part.is_dir() for part in there)):
            raise LowdoseError(f"{there[0]} exists; give another output, or --overwrite (files only) or --resume")
        self.path = path
        self.done_origins: Counter[str] = Counter()
        if resume:
            for part in there:
                if record_path(part).is_file():
                    self.done_origins.update(row["origin"] for row in read_rows(record_path(part)) if row["origin"])
        self._part = part_number(path, there[-1]) if there and resume else 0
        if overwrite and not resume:
            for part in there:
                part.unlink()
                record_path(part).unlink(missing_ok=True)
        self.n_saved = 0
        self.n_lost = 0
        self.error: LowdoseError | None = None
        self.files: list[Path] = []
        self.time_to_save = Percentiles()
        self._buffer_bytes = buffer_bytes
        self._queue: FrameQueue[tuple[float, Saved]] = FrameQueue(2, "block")
        self._file: GrowingFile | None = None
        self._record: Record | None = None
        self._sequence = -1
        self._last_number = -1
        self._thread = threading.Thread(target=self._run, name=f"save {path.name}", daemon=True)
        self._thread.start()

    def put(self, saved: Saved) -> None:
        """Hand over a frame; waits while the buffer is full."""
        self._queue.capacity = max(2, int(self._buffer_bytes / saved.pixels.nbytes))
        self._queue.put((time.perf_counter(), saved))

    def close(self) -> None:
        """Save what waits and close the file."""
        self._queue.close()
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                put_s, saved = self._queue.get() or (0.0, None)
                if saved is None or self.error is not None:
                    self.n_lost += saved is not None
                    continue
                try:
                    self._save(saved)
                    self.time_to_save.add((time.perf_counter() - put_s) * 1e3)
                except (LowdoseError, OSError) as error:
                    self.error = error if isinstance(error, LowdoseError) else LowdoseError(f"{self.path}: {error}")
                    self.n_lost += 1
        except EOFError:
            self._close_file()

    def _save(self, saved: Saved) -> None:
        new_sequence = saved.sequence != self._sequence
        spec = self._spec(saved)
        if self._file is None or unlike(self._file.spec, spec) or (new_sequence and saved.scan):
            self._next_file(spec)
        assert self._file is not None and self._record is not None
        place = self._file.n_frames
        if saved.scan and place == saved.scan[0] * saved.scan[1]:
            raise LowdoseError(f"{self._file.path}: the scan is complete and another pattern came")
        self._file.append(saved.pixels)
        self._record.add(
            Row(
                frame=place,
                sequence=saved.sequence,
                number=saved.number,
                lost_before=0 if new_sequence else max(0, saved.number - self._last_number - 1),
                arrived=iso_time(saved.arrived_ns),
                detector_time=saved.detector_time,
                latency_ms="" if saved.latency_ms is None else f"{saved.latency_ms:.3f}",
                origin=saved.origin,
                note=saved.note,
                model=saved.model,
            )
        )
        self._sequence, self._last_number = saved.sequence, saved.number
        self.n_saved += 1

    def _spec(self, saved: Saved) -> StackSpec:
        dtype = np.dtype(saved.pixels.dtype).newbyteorder("=")
        if saved.scan is None:
            shape, axes = (1, *saved.pixels.shape), "TYX"
        else:
            shape, axes = (*saved.scan, *saved.pixels.shape), SCAN_AXES + "YX"
        return StackSpec(axes, shape, dtype, saved.calibration, None, saved.provenance)

    def _next_file(self, spec: StackSpec) -> None:
        self._close_file()
        self._part += 1
        path = self.path if self._part == 1 else self.path.with_stem(f"{self.path.stem}-{self._part}")
        self._file = _MAKERS[path.suffix.lower()](path, spec)
        self._record = Record(path)
        self.files.append(path)

    def _close_file(self) -> None:
        if self._file is not None and self._record is not None:
            self._file.close()
            self._record.close()
            if self._file.n_frames == 0:  # the disk was full
                self._record.path.unlink(missing_ok=True)


def unlike(one: StackSpec, other: StackSpec) -> bool:
    """Whether frames of the two cannot share a file. Which model made a frame is in its row."""
    return replace(one, provenance={}) != replace(other, provenance={})


def parts(path: Path) -> list[Path]:
    """The files that a recorder of `path` has made, in their order."""
    found = [other for other in path.parent.glob("*") if part_number(path, other)]
    return sorted(found, key=lambda other: part_number(path, other))


def part_number(path: Path, other: Path) -> int:
    """1 for `path` itself, 2 for NAME-2 and so on; 0 for files of other names."""
    if other.name == path.name:
        return 1
    match = re.fullmatch(rf"{re.escape(path.stem)}-([1-9][0-9]*){re.escape(path.suffix)}", other.name)
    return int(match[1]) if match else 0
