"""One calibration: `lowdose calibrate` in another process, and the model file that it makes opened for a stream."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import DTypeLike

from lowdose.errors import LowdoseError
from lowdose.io import open_stack
from lowdose.live.arrival import Arrival, FrameShape
from lowdose.live.misfit import misfit_of
from lowdose.live.relay import Runner
from lowdose.methods.method import Options
from lowdose.methods.network import Network, PreparedNetwork
from lowdose.model import load
from lowdose.pipeline import FileSource, Job

# A model that suits its frames lies near 1.
MOST_MISFIT = 1.1


@dataclass(frozen=True)
class Calibrated:
    """A model made for a stream. runner: its stream, opened and ready to take over; said: what the command printed."""

    name: str
    prepared: PreparedNetwork
    report: dict[str, Any]
    runner: Runner
    said: str


class CalibrationRun:
    """Calibrates on `frames`, a file, for a stream of frames like `first`; runs from the moment that it is made.

    arguments: of `lowdose calibrate` behind the files. keep: where the model file shall stay, or None. All other files
    come beside `frames`. result: None until it is over, then the model, or why there is none. Raises OSError when no
    process can be started.
    """

    def __init__(
        self,
        name: str,
        frames: Path,
        arguments: Sequence[str],
        *,
        keep: Path | None,
        first: Arrival,
        out_dtype: DTypeLike,
        options: Options,
        device: str,
    ) -> None:
        self.name = name
        self.result: Calibrated | LowdoseError | None = None
        self._frames, self._keep, self._first, self._out_dtype = frames, keep, first, out_dtype
        self._options, self._device = options, device
        self._out, self._told, self._errors = (frames.with_suffix(suffix) for suffix in (".onnx", ".out", ".err"))
        program = [sys.executable, "-m", "lowdose.live.background"]
        command = [*program, "calibrate", str(frames), "-o", str(self._out), "--overwrite", *arguments]
        with self._told.open("wb") as told, self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=told,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the run, which then ends its calibration
                creationflags=getattr(subprocess, "IDLE_PRIORITY_CLASS", 0),
            )
        self._thread = threading.Thread(target=self._run, name="calibration", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give it up."""
        self._process.kill()
        self._thread.join()

    def _run(self) -> None:
        code = self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            if code != 0:
                raise LowdoseError(last_line(self._errors) or f"lowdose calibrate ended with {code}")
            self.result = self._open()
        except Exception as error:  # whatever it is, the stream goes on and says so
            self.result = error if isinstance(error, LowdoseError) else LowdoseError(repr(error))

    def _kept(self) -> Path:
        """The model file put where it shall stay: complete or not there."""
        if self._keep is None:
            return self._out
        part = self._keep.with_name(f".{self._keep.name}.part")
        try:
            shutil.copyfile(self._out, part)
            part.replace(self._keep)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise LowdoseError(f"{self._keep} cannot be written: {error.strerror}") from error
        return self._keep

    def _open(self) -> Calibrated:
        method = Network(load(self._out, device=self._device))
        with open_stack(self._frames) as reader:
            frames = FileSource(reader, Job())
            prepared = method.prepare(frames, self._options)
            misfit = misfit_of(prepared, frames)
        if misfit > MOST_MISFIT:
            raise LowdoseError(f"its misfit is {misfit:.2f}, and 1 is that of a small filter fitted to the same frames")
        stream = prepared.stream(FrameShape(self._first), self._out_dtype)
        n_before = 0 if method.model.scan else max(0, -min(method.model.taps))
        report = {
            "model": self.name,
            "device": method.device,
            "runtime": method.runtime,
            "model_file": self._kept().name,
            **prepared.report,
        }
        runner = Runner(stream, lambda: self.name, n_before)
        return Calibrated(self.name, prepared, report, runner, summary(self._told))


def summary(path: Path) -> str:
    """What the command printed first, less the name of the file."""
    first = (lines(path) or [""])[0]
    return first.partition(": ")[2] or first


def last_line(path: Path) -> str:
    return (lines(path) or [""])[-1].removeprefix("Error: ")


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
