"""Throughput, latency and endurance of `lowdose live` on loopback: makes LIVE.md, or soaks.

python -m benchmarks.live table > benchmarks/LIVE.md     a minute for each case
python -m benchmarks.live soak 1800 >> benchmarks/LIVE.md    half an hour; fails when a frame is lost or memory grows

A sender in a process of its own sends at a fixed rate over TCP, without waiting for the receiver.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lowdose

# Frames of the start, in which the method chooses and the backlog of that second is worked off.
SETTLED_S = 5.0
MOST_GROWTH_BYTES = 30e6


@dataclass(frozen=True)
class Case:
    """What is sent: frames (side_px, side_px) uint16 at frames_per_s."""

    name: str
    side_px: int
    frames_per_s: float
    scheme: str
    model: str = "wcvd"


CASES = [
    Case("Merlin 256x256 U16", 256, 500, "merlin"),
    Case("movie 512x512 uint16", 512, 100, "tcp"),
]
SOAK = Case("soak 128x128 U16", 128, 100, "merlin")  # half an hour makes 12 GB


def frames_of(case: Case) -> list[bytes]:
    """Messages of 64 different frames with counts of about four electrons."""
    movie = np.random.default_rng(0).poisson(4, (64, case.side_px, case.side_px)).astype(np.uint16)
    return [frame.astype(">u2" if case.scheme == "merlin" else "<u2").tobytes() for frame in movie]


def merlin_message(number: int, case: Case, pixels: bytes) -> bytes:
    side = f"{case.side_px:04d}"
    text = f"MQ1,{number:06d},00384,01,{side},{side},U16,   1x1,01,2026-11-20 12:00:00.000000,0.002,0,0,0,2.0E+0,"
    body = (text + "MQ1A,2026-11-20T12:00:00.000000000Z,2000000ns,12,").encode().ljust(384, b"\0") + pixels
    return b"MPX,%010d," % (len(body) + 1) + body


def send(case: Case, n_frames: int) -> None:
    """Serve one client: `n_frames` at the rate; prints the port first and at the end how late the last frame went."""
    pixels = frames_of(case)
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        client, _ = server.accept()
        with client:
            start_s = time.perf_counter()
            for number in range(n_frames):
                time.sleep(max(0.0, start_s + number / case.frames_per_s - time.perf_counter()))
                data = pixels[number % len(pixels)]
                client.sendall(merlin_message(number + 1, case, data) if case.scheme == "merlin" else data)
            late_s = time.perf_counter() - start_s - n_frames / case.frames_per_s
            print(f"{late_s * 1e3:.0f}", flush=True)


def measure(case: Case, seconds: float, folder: Path, view: bool = False) -> dict[str, Any]:
    """Run a case: the last status of `lowdose live`, latencies after the start from its record, and memory in bytes."""
    n_frames = round(seconds * case.frames_per_s)
    command = [sys.executable, "-m", "benchmarks.live", "send", json.dumps(asdict(case)), str(n_frames)]
    sender = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert sender.stdout is not None
    port = sender.stdout.readline().strip()
    out = folder / "live.h5"
    arguments = [f"{case.scheme}://127.0.0.1:{port}", "--model", case.model, "-o", str(out), "--json", "--overwrite"]
    arguments += ["--n-frames", str(n_frames), "--threads", "2", "--dtype", "same", "--idle", "20"]
    if case.scheme == "tcp":
        arguments += ["--shape", f"{case.side_px}x{case.side_px}", "--dtype-in", "<u2"]
    script = "from lowdose.cli.main import main; main()"
    command = [sys.executable, "-c", script, "live", *arguments, *(["--view"] if view else [])]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    memory_bytes: list[int] = []
    status: dict[str, Any] = {}
    for line in run.stdout:
        status = json.loads(line)
        if not status.get("end"):
            memory_bytes.append(resident_bytes(run.pid))
    run.wait()
    late_ms = float(sender.stdout.readline() or "nan")
    sender.wait()
    rows = (row.split(",") for row in out.with_name("live.h5.frames.csv").read_text().splitlines()[1:])
    settled = round(SETTLED_S * case.frames_per_s)
    latency_ms = np.array([float(row[6]) for row in rows])[settled:]
    return status | {"sent": n_frames, "late_ms": late_ms, "memory_bytes": memory_bytes, "latency_ms": latency_ms}


def resident_bytes(pid: int) -> int:
    """Memory of a process; 0 where the system does not tell it in /proc."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def row_of(case: Case, told: dict[str, Any]) -> str:
    """One line of the table."""
    one_frame_ms = 1e3 / case.frames_per_s
    p50, p99 = np.percentile(told["latency_ms"], [50, 99])
    stages = told["stages"]
    cells = [
        case.name,
        f"{case.frames_per_s:g}",
        f"{told['received']} of {told['sent']}",
        f"{told['lost'] + told['dropped']}",
        f"{p50 - one_frame_ms:.1f} / {p99 - one_frame_ms:.1f}",
        *(f"{stages[name]['p50_ms']:.2f} / {stages[name]['p99_ms']:.2f}" for name in ("wait", "denoise", "save")),
        f"{told['late_ms']:.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def table() -> None:
    """Print LIVE.md."""
    processor = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    print("# Live streams\n")
    print("Made by `python -m benchmarks.live table`. A sender in another process on the same machine sends over TCP")
    print("at a fixed rate for a minute; `lowdose live` denoises with wcvd (two threads) and saves raw and denoised")
    print("frames as HDF5. wcvd needs the frame behind, so one frame time is subtracted from the added latency, which")
    print(f"is from the arrival of a frame to its result, after the first {SETTLED_S:g} s. Stages (p50 / p99 ms of all")
    print("frames, the start included): wait in the queue, denoise, save to the file. Late: how far the sender was")
    print("behind its rate at the end.\n")
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"{processor}, {os.cpu_count()} cores; load before: {load}; lowdose {lowdose.__version__}.\n")
    names = "case | frames/s | received | lost or dropped | added p50 / p99 ms | wait | denoise | save | late ms"
    print(f"| {names} |\n|{'---|' * 9}")
    for case in CASES:
        for view in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                told = measure(case, 60, Path(folder), view)
            print(row_of(case, told).replace(case.name, case.name + (", --view" if view else "")), flush=True)


def soak(seconds: float) -> None:
    """Run SOAK for so long and fail when anything is lost or memory grows."""
    with tempfile.TemporaryDirectory() as folder:
        told = measure(SOAK, seconds, Path(folder))
    memory = told["memory_bytes"]
    settled = memory[len(memory) // 5 :]
    growth_bytes = np.mean(settled[-10:]) - np.mean(settled[:10])
    print(f"\n## Soak\n\n`python -m benchmarks.live soak {seconds:g}`: {SOAK.name} at {SOAK.frames_per_s:g} frames/s.")
    print(
        f"{told['received']} of {told['sent']} frames received, lost {told['lost']}, dropped {told['dropped']}, saved"
    )
    print(f"{told['saved']} denoised and {told['raw_saved']} raw; faults: {told['faults'] or 'none'}. Memory")
    print(f"{np.mean(settled) / 1e6:.0f} MB; it grew by {growth_bytes / 1e6:.1f} MB over the last four fifths. Late:")
    print(f"{told['late_ms']:.0f} ms. Load at the end: {', '.join(f'{value:.2f}' for value in os.getloadavg())}.")
    whole = told["received"] == told["saved"] == told["raw_saved"] == told["sent"]
    sys.exit(0 if whole and growth_bytes < MOST_GROWTH_BYTES else 1)


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(Case(**json.loads(sys.argv[2])), int(sys.argv[3]))
    elif sys.argv[1] == "soak":
        soak(float(sys.argv[2]))
    else:
        table()
