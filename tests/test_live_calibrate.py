"""Calibration while a stream goes on, with the real command in a process of its own."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from live_peers import Movie, live, noisy_movie, wait_until
from lowdose.io import open_stack, read_provenance
from lowdose.live import END, LiveFrame, LiveOptions, LiveRun, Outlets, Recorder, Source, calibrator
from lowdose.live.arrival import Arrival
from lowdose.live.calibrator import Calibrate
from lowdose.live.misfit import N_USUAL, Misfit
from lowdose.methods import find_method
from lowdose.methods.method import Options
from lowdose.methods.wiener import Wiener
from lowdose.model import load
from lowdose.source import ArraySource
from test_live_run import Results, messages

pytest.importorskip("onnx")

# How long a calibration may take on a machine that has much else to do.
LONG_S = 550.0


class Scenes(Source):
    """Frames of one scene after another, each until `done` says so of the run and then `n_more` frames.

    run: to be set before it begins.
    """

    def __init__(self, scenes, done, n_more=20):
        super().__init__()
        self.scenes, self.done, self.n_more = scenes, done, n_more
        self.sent = []
        self.run = None

    def frames(self):
        end = time.monotonic() + LONG_S
        for scene, done in zip(self.scenes, self.done, strict=True):
            n_left = self.n_more
            while n_left and not self.stopping.wait(0.01):
                assert time.monotonic() < end, "waited in vain"
                n_left -= done(self.run)
                frame = scene[len(self.sent) % len(scene)]
                self.sent.append(frame)
                yield LiveFrame(frame, len(self.sent) - 1)


def in_use(number):
    return lambda run: f"calibration {number} " in run.status()["model"]


def usual_is_known(run):
    misfit = run.denoiser.calibrator.misfit
    return misfit is not None and len(misfit.estimates) > N_USUAL


def calibrated_run(source, out=None, method="wiener", listeners=(), what=None, **options):
    """A run with calibration, to its end: (the run, its last status)."""
    outlets = Outlets(listeners=list(listeners))
    if out is not None:
        outlets.denoised = Recorder(out, buffer_bytes=1e8)
    what = what or Calibrate(keep=out)
    run = LiveRun(source, find_method(method), LiveOptions(threads=1, calibrate=what, **options), outlets)
    source.run = run
    return run, run.run()


@pytest.fixture
def few(monkeypatch):
    """Calibrations on 40 frames."""
    monkeypatch.setattr(calibrator, "MOST_FRAMES", 40)


def test_the_calibrated_model_takes_over_between_two_frames(tmp_path, few):
    """Every frame comes once; before the change as from the first method, from then on as from the model file alone."""
    seen = Results()
    source = Scenes([noisy_movie(64, dtype=np.float32)], [in_use(1)])
    run, status = calibrated_run(source, tmp_path / "a.h5", listeners=[seen])
    movie = np.stack(source.sent)
    assert status["failures"] == [] and seen.numbers == list(range(len(movie)))
    names = [result.model for result in seen.results]
    at = names.index("calibration 1 (wiener)")
    assert 40 < at < len(movie) and names == ["wiener"] * at + ["calibration 1 (wiener)"] * (len(movie) - at)
    results = np.stack([result.pixels for result in seen.results])
    fitted = Wiener().prepare(ArraySource(movie[:16]), Options())
    stream = fitted.stream(ArraySource(movie), np.float32)
    first = [out for frame in movie if (out := stream.push(frame)) is not None]
    np.testing.assert_array_equal(results[:at], first[:at])
    kept = load(tmp_path / "a.calibration-1.onnx", device="cpu")
    np.testing.assert_array_equal(results[at:], kept.denoise(movie)[at:])
    # Said, counted and recorded.
    assert f"calibration 1 (wiener) denoises from frame {at} on" in messages(run)
    assert (status["model"], status["calibration"]) == ("calibration 1 (wiener)", "calibrated")
    assert status["latency_frames"] == max(kept.taps)
    with (tmp_path / "a.h5.frames.csv").open() as file:
        assert [row["model"] for row in csv.DictReader(file)] == names
    assert read_provenance(tmp_path / "a.h5")["model"] == "wiener"
    with open_stack(tmp_path / "a.h5") as reader:  # one file, whatever made its frames
        assert reader.n_frames == len(movie)


def test_a_stream_that_drifts_is_calibrated_again(tmp_path, few, monkeypatch):
    """Fine structure turns coarse: the second model suits it, and the names of kept files go on."""
    monkeypatch.setattr("lowdose.live.misfit.EVERY_S", 0.0)
    monkeypatch.setattr("lowdose.live.misfit.SHARE", 1.0)
    y, x = np.mgrid[:48, :48]
    rng = np.random.default_rng(3)
    scenes = [
        (100 + 20 * np.sin((x - 0.5 * y) / width) + rng.normal(0, 10, (64, 48, 48))).astype(np.float32)
        for width in (1.0, 12.0)
    ]
    first = "calibration 1 (wiener)"
    (tmp_path / "a.calibration-1.onnx").write_bytes(b"of an earlier run")
    source = Scenes(scenes, [usual_is_known, lambda run: run.status()["model"] not in ("wiener", first)])
    run, status = calibrated_run(source, tmp_path / "a.h5")
    second = status["model"]
    assert "the misfit has risen from" in messages(run)
    assert (tmp_path / "a.calibration-1.onnx").read_bytes() == b"of an earlier run"
    truth = 100 + 20 * np.sin((x - 0.5 * y) / 12.0)
    errors = []
    for number in (2, 3):
        denoised = load(tmp_path / f"a.calibration-{number}.onnx", device="cpu").denoise(scenes[1])
        errors.append(np.mean((denoised - truth) ** 2))
    assert errors[1] < 0.5 * errors[0]
    with (tmp_path / "a.h5.frames.csv").open() as file:
        names = [row["model"] for row in csv.DictReader(file)]
    assert len(names) == len(source.sent) == status["denoised"]
    assert sorted(set(names), key=names.index) == ["wiener", first, second]


def test_misfit_rises_with_the_scene_and_not_by_chance():
    y, x = np.mgrid[:48, :64]
    rng = np.random.default_rng(1)

    def frames(width, n_frames):
        return (100 + 20 * np.sin((x - 0.5 * y) / width) + rng.normal(0, 10, (n_frames, 48, 64))).astype(np.float32)

    prepared = Wiener().prepare(ArraySource(frames(1.0, 64)), Options())
    misfit = Misfit("wiener", prepared, every_s=0.0)
    for width, wanted in ((1.0, N_USUAL + 4), (12.0, N_USUAL + 6)):
        while len(misfit.estimates) < wanted:
            misfit.end()
            misfit._not_before_s = 0.0
            for frame in frames(width, 25):
                misfit.see(arrival(frame))
            misfit.wait()
        assert misfit.drifted == (width == 12.0), misfit.estimates
    misfit.end()
    before = list(misfit.estimates)
    for frame in frames(1.0, 24):  # of another sequence, too few
        misfit.see(arrival(frame))
    misfit.wait()
    assert misfit.estimates == before


def arrival(frame, number=0, scan=None):
    return Arrival(LiveFrame(frame, number), 0, 0.0, 0, scan)


def test_a_closed_shutter_says_nothing_of_the_misfit():
    movie = noisy_movie(30, dtype=np.float32)
    misfit = Misfit("wiener", Wiener().prepare(ArraySource(movie), Options()), every_s=0.0)
    for _ in range(30):
        misfit.see(arrival(np.zeros((32, 48), np.float32)))
        misfit.wait()
    assert misfit.estimates == [] and not misfit.drifted


class Scans(Source):
    """The same scan with other noise, until one is denoised by a calibrated model."""

    def __init__(self, scan):
        super().__init__()
        self.scan_frames, self.run, self.n_scans = scan, None, 0

    def frames(self):
        end = time.monotonic() + LONG_S
        while time.monotonic() < end and "calibration" not in self.run.status()["model"]:
            patterns = np.random.default_rng(self.n_scans).poisson(self.scan_frames).astype(np.uint8)
            for number, pattern in enumerate(patterns.reshape(-1, *patterns.shape[2:])):
                yield LiveFrame(pattern, number)
            yield END
            self.n_scans += 1
            if self.stopping.wait(0.2):
                return


def test_scans_change_between_two_of_them(tmp_path, few):
    y, x = np.mgrid[:24, :24]
    scene = [[20 * np.exp(-((y - 12 - v) ** 2 + (x - 11 - u) ** 2) / 30) + 1 for u in range(7)] for v in range(6)]
    source = Scans(np.array(scene))
    seen = Results()
    _, status = calibrated_run(source, tmp_path / "a.h5", listeners=[seen], scan=(6, 7))
    assert status["failures"] == [] and status["denoised"] == 42 * source.n_scans
    by_scan = {}
    for result in seen.results:
        by_scan.setdefault(result.arrival.sequence, set()).add(result.model)
    assert all(len(names) == 1 for names in by_scan.values())
    assert by_scan[0] == {"wiener"} and by_scan[max(by_scan)] == {"calibration 1 (wiener)"}


class UntilFailed(Source):
    """The same frames over and over, until something has failed."""

    def __init__(self, movie):
        super().__init__()
        self.movie, self.run, self.n_sent = movie, None, 0

    def frames(self):
        end = time.monotonic() + LONG_S
        while time.monotonic() < end and not self.run.failures and not self.stopping.wait(0.01):
            self.n_sent += 1
            yield LiveFrame(self.movie[self.n_sent % len(self.movie)], self.n_sent - 1)


def test_a_calibration_that_fails_leaves_the_stream_alone(tmp_path, few):
    source = UntilFailed(noisy_movie(48))
    out = tmp_path / "a.h5"
    _, status = calibrated_run(source, out, what=Calibrate("nonsense", "1s", keep=out))
    assert status["denoised"] == status["saved"] == source.n_sent > 40
    assert len(status["failures"]) == 1 and "the stream goes on without it: " in status["failures"][0]
    assert (status["model"], status["calibration"]) == ("wiener", "not calibrated")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a.h5.frames.csv"]


def test_a_model_that_does_not_suit_is_neither_used_nor_kept(tmp_path, few, monkeypatch):
    monkeypatch.setattr("lowdose.live.calibration_run.MOST_MISFIT", 0.5)  # that none can reach
    out = tmp_path / "a.h5"
    _, status = calibrated_run(UntilFailed(noisy_movie(48)), out)
    assert len(status["failures"]) == 1 and "its misfit is 1.0" in status["failures"][0].replace("0.9", "1.0")
    assert status["model"] == "wiener"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "a.h5.frames.csv"]


def test_the_message_names_the_extra_that_is_missing(tmp_path, few, monkeypatch):
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError('No module named onnx', name='onnx')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    _, status = calibrated_run(UntilFailed(noisy_movie(48)))
    assert "pip install 'lowdose[calibrate]'" in status["failures"][0]


def test_a_short_sequence_is_calibrated_on_and_a_shorter_one_is_not(few):
    """Frames of two sequences are no neighbours: collecting begins anew, or makes do with 16 frames."""
    movie = noisy_movie(30)

    class Short(Source):
        run = None

        def frames(self):
            for n_frames in (5, 20):
                yield from (LiveFrame(frame, number) for number, frame in enumerate(movie[:n_frames]))
                yield END

    run, _ = calibrated_run(Short(), method="gaussian:1")
    assert "calibration 1 (wiener): on 20 frames from 1:0 on" in messages(run)
    assert "the stream has ended while calibrating wiener" in messages(run)


# --- the command


def calibrating_processes():
    """Process numbers of the commands that calibrate for a live run, wherever it is."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"lowdose.live.background" in words:
            found.append((int(path.parent.name), words))
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are not listed here")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_calibration_never_outlives_its_run(tmp_path, monkeypatch, number):
    """Even a run that is killed takes the calibrating process with it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "m.npy", noisy_movie(512, 64, 64))
    arguments = ["live", f"watch:{tmp_path / 'in'}", "--no-raw", "--model", "gaussian:1", "--calibrate"]
    program = [sys.executable, "-c", "from lowdose.cli.main import main; main()"]
    process = subprocess.Popen([*program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def own():
        return [pid for pid, words in calibrating_processes() if any(str(tmp_path).encode() in word for word in words)]

    wait_until(lambda: own() or process.poll() is not None, LONG_S)
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    process.communicate(timeout=LONG_S)
    wait_until(lambda: not own(), LONG_S)
    if number == signal.SIGTERM:
        assert list(tmp_path.glob("lowdose-calibration-*")) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--budget", "60s"], "--budget is for --calibrate"),
        (["--calibrate", "--budget", "60s"], "which wiener is not"),
        (["--follow"], "--follow is for --model wiener, not for wcvd"),
        (["--follow", "--model", "gaussian:1"], "not for gaussian:1"),
    ],
)
def test_arguments_that_do_not_go_together(tmp_path, lowdose, arguments, words):
    np.save(tmp_path / "m.npy", noisy_movie(3))
    outcome = lowdose("live", f"replay:{tmp_path / 'm.npy'}@100", "--no-raw", *arguments)
    assert outcome.code == 2 and words in outcome.err


# --- following


def test_wiener_that_follows_says_which_fit_made_a_frame(tmp_path, monkeypatch):
    """Fits go on over the end of a sequence, and each row of the record names its own."""
    monkeypatch.setattr("lowdose.methods.wiener.REST", 0.0)
    movie = noisy_movie(32, 24, 32)

    class UntilFitted(Source):
        run = None

        def frames(self):
            end = time.monotonic() + LONG_S
            n_sent = 0
            while self.run.status()["model"] in ("wiener", "wiener fit 1"):
                assert time.monotonic() < end
                if self.stopping.wait(0.005):
                    return
                yield LiveFrame(movie[n_sent % 32], n_sent)
                n_sent += 1
            yield END
            yield from movie[:20]

    source = UntilFitted()
    recorder = Recorder(tmp_path / "a.h5", buffer_bytes=1e8)
    seen = Results()
    run = LiveRun(source, Wiener(following=True), LiveOptions(threads=1), Outlets(denoised=recorder, listeners=[seen]))
    source.run = run
    status = run.run()
    assert status["failures"] == [] and "and fitted again as the stream goes on" in messages(run)
    fits = [int(result.model.removeprefix("wiener fit ")) for result in seen.results]
    assert fits[0] == 1 and fits == sorted(fits)
    assert min(fits[-20:]) >= 2  # the second sequence begins with what the first has learnt
    with (tmp_path / "a.h5.frames.csv").open() as file:
        assert [row["model"] for row in csv.DictReader(file)] == [f"wiener fit {fit}" for fit in fits]
    assert read_provenance(tmp_path / "a.h5")["follows"] is True


def test_a_scan_cannot_be_followed(tmp_path):
    _, status = live(Movie(noisy_movie(12, 8, 8)), tmp_path / "a.h5", model=Wiener(following=True), scan=(3, 4))
    assert "leave out --follow" in status["failures"][0] and status["raw_saved"] == 12
