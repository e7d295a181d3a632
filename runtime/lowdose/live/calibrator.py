"""Live calibration: models are made for a stream from its own frames, in another process, while the stream goes on."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from lowdose.errors import LowdoseError
from lowdose.io.calibration import Calibration
from lowdose.io.layout import SCAN_AXES
from lowdose.io.writer import StackSpec
from lowdose.live.arrival import Arrival
from lowdose.live.calibration_run import Calibrated, CalibrationRun
from lowdose.live.misfit import Misfit
from lowdose.live.output.hdf5 import GrowingHdf5
from lowdose.methods.method import Options

WIENER = "wiener"
# Of a movie so many pixels are calibrated on, 64 frames of 512x512; a sequence that ends before will do from 16 frames.
MOVIE_PIXELS = 16e6
FEWEST_FRAMES, MOST_FRAMES = 32, 512
ENOUGH_FRAMES = 16
# Of a scan its first rows, a quarter of a gigabyte of uint16 at most.
SCAN_PIXELS = 128e6
FEWEST_ROWS, MOST_ROWS = 4, 32
# So often in a row a drifted stream is calibrated in vain.
MOST_FAILURES = 3


@dataclass(frozen=True)
class Calibrate:
    """What to calibrate: method and budget as `lowdose calibrate` takes them, and the device to run the model on.

    keep: the output beside which model files are kept, as NAME.calibration-1.onnx and so on; None: they are not.
    """

    method: str = WIENER
    budget: str | None = None
    device: str = "auto"
    keep: Path | None = None

    @property
    def arguments(self) -> list[str]:
        chosen = [] if self.method == WIENER else ["--method", self.method]
        return chosen + ([] if self.budget is None else ["--budget", self.budget])


class Calibrator:
    """Collects frames, lets `lowdose calibrate` make a model file of them, and again when the frames drift from it.

    said: told what happens. Not for use by two threads at once.
    """

    def __init__(self, what: Calibrate, options: Options, said: Callable[[str], None]) -> None:
        self.what = what
        self.options = options
        self.said = said
        self._failures: list[str] = []
        self.misfit: Misfit | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="lowdose-calibration-")
        self._n_models = 0
        self._out_dtype: DTypeLike = np.float32
        self._collecting = False
        self._first: Arrival | None = None
        self._file: GrowingHdf5 | None = None
        self._run: CalibrationRun | None = None
        self._drifted: Misfit | None = None
        self._n_failed = 0

    @property
    def state(self) -> str:
        """What is going on, in a few words."""
        if self._run is not None:
            return f"calibrating {self.what.method}"
        if self._collecting:
            return f"collecting frames to calibrate {self.what.method}"
        if self.misfit is not None:
            estimates = self.misfit.estimates
            return f"calibrated, misfit {estimates[-1]:.3f}" if estimates else "calibrated"
        return "not calibrated"

    def begin(self, out_dtype: DTypeLike) -> None:
        """Calibrate on the frames that are seen from now on. out_dtype: of the stream's results."""
        self._stop()
        self.misfit = self._drifted = None
        self._n_failed = 0
        self._out_dtype = out_dtype
        self._collecting = True

    def see(self, arrival: Arrival) -> None:
        """Take a frame of the stream: to calibrate on, or to see whether the model in use still suits."""
        if self._collecting:
            self._collect(arrival)
        elif self.misfit is not None:
            self.misfit.see(arrival)
            if self.misfit.drifted:
                rise = f"from {self.misfit.usual:.3f} to {self.misfit.estimates[-1]:.3f}"
                self.said(f"{self.misfit.name}: the misfit has risen {rise}; calibrating again")
                self._drifted, self.misfit = self.misfit, None
                self._collecting = True

    def end(self) -> None:
        """A sequence is over: what comes next is no neighbour of what came."""
        if self.misfit is not None:
            self.misfit.end()
        if self._file is None or self._first is None:
            return
        if self._first.scan is None and self._file.n_frames >= ENOUGH_FRAMES:
            self._start(self._first, self._file)
        else:
            self._drop_file()

    def take(self) -> Calibrated | None:
        """A model that has become ready, once."""
        result = None if self._run is None else self._run.result
        if result is None:
            return None
        self._run = None
        if isinstance(result, Calibrated):
            return result
        self._fail(result)
        return None

    def use(self, calibrated: Calibrated) -> None:
        """This model is in use from now on; watch whether it goes on to suit the frames."""
        self._drifted, self._n_failed = None, 0
        # Estimates run beside the stream and should not take all cores.
        alone = replace(calibrated.prepared, options=replace(self.options, threads=1))
        self.misfit = Misfit(calibrated.name, alone)

    def take_failures(self) -> list[str]:
        """Why calibrations came to nothing, since this was asked last; all of it was said."""
        failures, self._failures = self._failures, []
        return failures

    def close(self) -> None:
        """Give up what is under way."""
        if self._run is not None or self._collecting:
            self.said(f"the stream has ended while {self.state}: that is given up")
        self._stop()
        if self.misfit is not None:
            self.misfit.wait()
        self._folder.cleanup()

    def _collect(self, arrival: Arrival) -> None:
        if self._file is None and arrival.scan is not None and arrival.frame.number != 0:
            return  # in the middle of a scan
        try:
            if self._file is None:
                self._first, self._file = arrival, self._new_file(arrival)
            self._file.append(arrival.frame.pixels)
        except LowdoseError as error:  # the disk is full, say
            self._drop_file()
            self._collecting = False
            self._fail(error)
            return
        assert self._first is not None
        if self._file.n_frames == n_wanted(self._first):
            self._start(self._first, self._file)

    def _new_file(self, first: Arrival) -> GrowingHdf5:
        """A stack that grows, or the first rows of a scan."""
        pixels = first.frame.pixels
        shape: tuple[int, ...] = (1, *pixels.shape)
        axes = "TYX"
        if first.scan is not None:
            shape, axes = (n_wanted(first) // first.scan[1], first.scan[1], *pixels.shape), SCAN_AXES + "YX"
        spec = StackSpec(axes, shape, np.dtype(pixels.dtype), Calibration(), None)
        return GrowingHdf5(Path(self._folder.name) / "frames.h5", spec)

    def _start(self, first: Arrival, file: GrowingHdf5) -> None:
        file.close()
        self._file, self._collecting = None, False
        self._n_models += 1
        name = f"calibration {self._n_models} ({self.what.method})"
        self.said(f"{name}: on {file.n_frames} frames from {first.place} on, in another process")
        try:
            self._run = CalibrationRun(
                name,
                file.path,
                self.what.arguments,
                keep=self._kept_name(),
                first=first,
                out_dtype=self._out_dtype,
                options=self.options,
                device=self.what.device,
            )
        except OSError as error:
            self._fail(LowdoseError(f"no process can be started: {error.strerror}"))

    def _kept_name(self) -> Path | None:
        """The first name beside the output that no earlier run has taken."""
        if self.what.keep is None:
            return None
        names = (self.what.keep.with_name(f"{self.what.keep.stem}.calibration-{n}.onnx") for n in count(1))
        return next(name for name in names if not name.exists())

    def _fail(self, error: LowdoseError) -> None:
        self._failures.append(f"calibration {self._n_models} has failed, and the stream goes on without it: {error}")
        self.said(self._failures[-1])
        self._n_failed += 1
        if self._n_failed < MOST_FAILURES:
            self.misfit = self._drifted  # which is still drifted, so the next frames are collected

    def _drop_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file.path.unlink(missing_ok=True)
            self._file = None

    def _stop(self) -> None:
        self._drop_file()
        self._collecting = False
        if self._run is not None:
            self._run.close()
            self._run = None


def n_wanted(first: Arrival) -> int:
    """How many frames like `first` are calibrated on."""
    pixels = first.frame.pixels.size
    if first.scan is None:
        return int(np.clip(MOVIE_PIXELS / pixels, FEWEST_FRAMES, MOST_FRAMES))
    rows = int(np.clip(SCAN_PIXELS / (pixels * first.scan[1]), FEWEST_ROWS, MOST_ROWS))
    return min(rows, first.scan[0]) * first.scan[1]
