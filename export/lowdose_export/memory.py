"""How much memory one run of a model takes per pixel: measured, because it depends on the engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lowdose.errors import LowdoseError

SIDES_PX = (1024, 2048)
SAFETY = 1.2

# Run by a fresh interpreter, so that the peak is that of the one stream. Its ring and result are not counted. Where
# there is /proc, the peak is read there: that of getrusage begins with the memory of the process that started this one.
PROBE = """
import json, pathlib, resource, sys
import numpy as np
from lowdose import Settings, load
path, side = sys.argv[1], int(sys.argv[2])
model = load(path, device="cpu", kernels=False)  # the form that takes more memory
scan = (3, 5) if model.scan else None  # the widest neighbourhoods fit
settings = Settings(0, 1 / 7, 0.0) if model.metadata["low_pass"] else None
stream = model.stream(side, side, scan=scan, settings=settings)
n_channels = len(model.channels)
frame = np.ones((n_channels, side, side) if n_channels > 1 else (side, side), np.float32)
for _ in range(15 if scan else len(model.taps) + 1):
    stream.push(frame)
status = pathlib.Path("/proc/self/status")
if status.exists():
    peak = 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps(peak))
"""


def bytes_per_px(path: Path, metadata: dict[str, Any], sides_px: tuple[int, int] = SIDES_PX) -> float:
    """Memory of one run beyond the stream's own buffers, in bytes per pixel, with a margin of 20 %.

    It is the slope from the smaller of `sides_px` to the larger. `metadata` is that of the model file `path`. Raises
    LowdoseError where the peak memory of a process cannot be read (Windows).
    """
    small, large = (peak_bytes(path, side) for side in sides_px)
    # Ring, result, and the frame with its copy in the probe itself; of some models two blocks or three states.
    n_planes = (len(metadata["taps"]["offsets"]) + 1 + 2) * len(metadata["channels"])
    n_planes += 2 * metadata["block"]["n_frames"] if "block" in metadata else 0
    n_planes += 3 * metadata["state"]["channels"] if "state" in metadata else 0
    per_px = (large - small) / (sides_px[1] ** 2 - sides_px[0] ** 2)
    return float(round(SAFETY * max(per_px - 4 * n_planes, 4.0), 1))


def peak_bytes(path: Path, side_px: int) -> int:
    """Peak memory of a process that runs the model on square frames."""
    done = subprocess.run([sys.executable, "-c", PROBE, str(path), str(side_px)], capture_output=True, text=True)
    if done.returncode != 0:
        raise LowdoseError(f"cannot measure the memory of {path}: {done.stderr.strip().splitlines()[-1]}")
    return int(json.loads(done.stdout))
