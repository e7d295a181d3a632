"""The live run: what goes in comes out, is counted, and is said."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest

from live_peers import PATIENCE_S, Movie, live, noisy_movie, wait_until
from lowdose.errors import LowdoseError
from lowdose.io import open_stack
from lowdose.live import END, LiveFrame, LiveOptions, LiveRun, Outlets, Source
from lowdose.live.percentiles import Percentiles
from lowdose.live.policy import FrameQueue
from lowdose.methods import find_method
from lowdose.model import load


class Results:
    """A listener that keeps everything."""

    def __init__(self, delay_s=0.0):
        self.delay_s = delay_s
        self.results = []
        self.closed = False

    def show(self, result, status):
        time.sleep(self.delay_s)
        self.results.append(result)

    def close(self):
        self.closed = True

    @property
    def numbers(self):
        return [result.arrival.frame.number for result in self.results]


class Script(Source):
    """Gives the items of a list; an exception among them is raised."""

    def __init__(self, items):
        super().__init__()
        self.items = items

    def frames(self):
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield item


def run_of(source, listeners, model="gaussian:1", **options):
    return LiveRun(source, find_method(model), LiveOptions(threads=1, **options), Outlets(listeners=listeners))


def messages(run):
    return " | ".join(message for _, message in run.messages)


# --- methods


@pytest.mark.parametrize("n_frames", [2, 3, 15, 16, 17, 40])
def test_a_movie_model_gives_what_it_gives_of_the_file(n_frames):
    movie = noisy_movie(n_frames)
    seen = Results()
    run, status = live(Movie(movie), model="wcvd", listeners=[seen], dtype="float32")
    model = load("wcvd")
    settings = run.denoiser.prepared.settings
    expected = model.denoise(movie, settings=settings)
    np.testing.assert_array_equal(np.stack([result.pixels for result in seen.results]), expected)
    assert seen.numbers == list(range(n_frames)) and seen.closed
    assert (status["received"], status["denoised"], status["lost"], status["dropped"]) == (n_frames, n_frames, 0, 0)
    assert f"chosen from the first {min(16, n_frames)} frames" in messages(run)


@pytest.mark.parametrize("model", ["wcid", "wiener", "gaussian3d:1,1", "tv:0.5"])
def test_every_method_streams(model):
    movie = noisy_movie(20)
    seen = Results()
    run, status = live(Movie(movie), model=model, listeners=[seen], dtype="same")
    assert seen.numbers == list(range(20)) and status["failures"] == []
    assert {result.pixels.dtype for result in seen.results} == {movie.dtype}
    residual = np.stack([result.pixels for result in seen.results]).astype(float) - movie
    assert 5 < residual.std() < 60  # noise of 20 was removed, and the scene of 100 was not
    assert run.denoiser.report["model"] == model


def test_sequences_are_denoised_for_themselves_in_the_same_way():
    movie = noisy_movie(30)
    source = Script([*movie[:20], END, END, *movie[20:]])
    seen = Results()
    run, status = live(source, model="wcvd", listeners=[seen], dtype="float32")
    settings = run.denoiser.prepared.settings
    expected = [load("wcvd").denoise(part, settings=settings) for part in (movie[:20], movie[20:])]
    np.testing.assert_array_equal(np.stack([result.pixels for result in seen.results]), np.concatenate(expected))
    assert status["sequences"] == 2
    assert [result.arrival.sequence for result in seen.results] == [0] * 20 + [1] * 10


def test_frames_of_another_shape_are_another_sequence(tmp_path):
    small, large = noisy_movie(5), noisy_movie(4, 40, 50)
    _, status = live(Movie([*small, *large]), tmp_path / "a.h5")
    assert (status["sequences"], status["saved"]) == (2, 9)
    with open_stack(tmp_path / "a-2.h5") as reader:
        assert reader.shape == (4, 40, 50)


# --- counting


def test_numbers_that_are_left_out_are_lost_frames():
    movie = noisy_movie(6)
    frames = [LiveFrame(frame, number, f"t{number}") for frame, number in zip(movie, (0, 1, 4, 5, 2, 3), strict=True)]
    seen = Results()
    _, status = live(Script(frames), listeners=[seen])
    assert (status["received"], status["lost"], status["sequences"]) == (6, 2, 2)  # numbers that go back: a new one
    assert [result.arrival.frame.time for result in seen.results] == ["t0", "t1", "t4", "t5", "t2", "t3"]


@pytest.mark.parametrize("policy", ["block", "drop-oldest", "newest-wins"])
def test_policies_when_denoising_is_slower_than_the_source(tmp_path, policy):
    movie = noisy_movie(120)
    listener = Results(delay_s=0.004)
    options = {"policy": policy, "buffer_bytes": 8 * movie[0].nbytes}
    _, status = live(Movie(movie), tmp_path / "a.tif", listeners=[listener], **options)
    assert status["received"] == 120 == status["raw_saved"]
    assert status["denoised"] + status["dropped"] == 120 and status["denoised"] == len(listener.results)
    assert listener.numbers == sorted(set(listener.numbers))
    assert (status["dropped"] == 0) == (policy == "block")
    with open_stack(tmp_path / "a.raw.tif") as reader:  # the raw frames are all there
        np.testing.assert_array_equal(np.stack([reader.read(n)[0] for n in range(120)]), movie)
    if policy != "block":
        assert listener.numbers[-1] == 119


@pytest.mark.parametrize(
    ("policy", "left"),
    [("drop-oldest", [4, 5, 6]), ("newest-wins", [6])],
)
def test_what_the_queue_gives_up(policy, left):
    queue = FrameQueue(3, policy)
    for number in range(7):
        queue.put(number)
    queue.end()
    queue.close()
    queue.put(99)
    got = []
    with pytest.raises(EOFError):
        while True:
            got.append(queue.get(1))
    assert got == [*left, None] and queue.dropped == 7 - len(left) and queue.deepest == 3


def test_ends_of_sequences_are_never_given_up():
    queue = FrameQueue(2, "drop-oldest")
    for item in (0, 1, None, 2, 3, 4):
        queue.end() if item is None else queue.put(item)
    assert [queue.get(1) for _ in range(3)] == [None, 3, 4]
    with pytest.raises(TimeoutError):
        queue.get(0.01)


def test_a_full_queue_that_blocks_holds_the_source_up():
    queue = FrameQueue(2, "block")
    done = []

    def fill():
        for number in range(4):
            queue.put(number)
            done.append(number)

    threading.Thread(target=fill, daemon=True).start()
    wait_until(lambda: len(done) == 2)
    time.sleep(0.05)
    assert done == [0, 1]
    assert queue.get(1) == 0
    wait_until(lambda: len(done) == 3)
    queue.close()
    wait_until(lambda: len(done) == 4)


def test_percentiles_against_sorting():
    times = np.random.default_rng(3).lognormal(2, 1.5, 5000)
    percentiles = Percentiles()
    for time_ms in times:
        percentiles.add(time_ms)
    report = percentiles.report()
    assert report["count"] == 5000 and report["max_ms"] == times.max()
    assert report["mean_ms"] == pytest.approx(times.mean())
    for share in (50, 95, 99):
        exact = np.quantile(times, share / 100, method="inverted_cdf")
        assert report[f"p{share}_ms"] == pytest.approx(exact, rel=0.021)
    assert set(Percentiles().report().values()) == {0}
    percentiles.add(0.0)
    percentiles.add(1e12)
    assert percentiles.report()["max_ms"] == 1e12


# --- what goes wrong


def test_frames_with_nan_are_refused_and_counted(tmp_path):
    movie = noisy_movie(24, dtype=np.float32)
    movie[20, 3, 3] = np.nan
    seen = Results()
    run, status = live(Movie(movie), tmp_path / "a.h5", model="wcvd", listeners=[seen])
    assert (status["refused"], status["denoised"], status["raw_saved"]) == (1, 23, 24)
    assert 20 not in seen.numbers
    assert "frame 20 was refused" in messages(run)


@pytest.mark.parametrize("model", ["wiener", "wcvd"])
def test_frames_before_the_beam_is_on_choose_nothing(tmp_path, model):
    movie = noisy_movie(20)
    frames = [np.zeros_like(movie[0])] * 10 + [*movie]
    seen = Results()
    run, status = live(Movie(frames), tmp_path / "a.h5", model=model, listeners=[seen])
    assert (status["refused"], status["denoised"], status["raw_saved"], status["failures"]) == (10, 20, 30, [])
    assert seen.numbers == list(range(10, 30))
    assert "frame 0 is constant: denoising begins with the first that is not" in messages(run)


def test_a_sequence_that_is_too_short_is_counted_and_the_next_one_goes_on():
    movie = noisy_movie(30)
    run, status = live(Script([*movie[:20], END, movie[0], END, *movie[20:]]), model="wcvd")
    assert (status["denoised"], status["refused"], status["failures"]) == (30, 1, [])
    assert "sequence 1 was refused: wcvd needs at least 2 frames" in messages(run)


def test_raw_frames_are_saved_when_denoising_cannot_be(tmp_path):
    movie = noisy_movie(30, 4, 4)  # too small for wcvd
    _, status = live(Movie(movie), tmp_path / "a.tif", model="wcvd")
    assert (status["received"], status["raw_saved"], status["saved"]) == (30, 30, 0)
    assert len(status["failures"]) == 1 and "denoising has stopped" in status["failures"][0]
    with open_stack(tmp_path / "a.raw.tif") as reader:
        assert reader.n_frames == 30


@pytest.mark.parametrize("error", [LowdoseError("beam off"), ValueError("beam off")])
def test_a_source_that_fails_keeps_what_came_before(tmp_path, error):
    movie = noisy_movie(10)
    _, status = live(Script([*movie, error]), tmp_path / "a.h5", model="wcvd")
    assert (status["saved"], status["raw_saved"]) == (10, 10)
    assert "beam off" in status["failures"][0]


@pytest.mark.parametrize("item", [np.zeros((2, 3, 4)), np.zeros(4), np.zeros((0, 4)), np.zeros((3, 3), complex)])
def test_items_that_are_no_frames(item):
    _, status = live(Script([item]))
    assert "expected real pixels" in status["failures"][0]


def test_a_clock_that_jumps(tmp_path, monkeypatch):
    """The computer's clock is put back an hour: latencies and rates do not notice, and the record shows it."""
    movie = noisy_movie(20)
    shift_ns = 0
    now_ns = time.time_ns

    def jump(number):
        nonlocal shift_ns
        shift_ns = -3600 * 10**9 if number >= 10 else 0
        time.sleep(0.002)

    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + shift_ns)
    _, status = live(Movie(movie, jump), tmp_path / "a.h5")
    assert status["saved"] == 20
    assert 0 < status["stages"]["total"]["max_ms"] < 60_000
    assert 0 < status["frames_per_s"] < 1000
    rows = (tmp_path / "a.h5.frames.csv").read_text().splitlines()[1:]
    arrived = [row.split(",")[4] for row in rows]
    assert arrived[9] > arrived[10] and arrived[10] < arrived[11]


# --- the end


def test_stop_saves_what_came(tmp_path):
    class Endless(Source):
        def frames(self):
            frame = noisy_movie(1)[0]
            while not self.stopping.wait(0.001):
                yield frame

    seen = Results()
    run = run_of(Endless(), [seen], model="wcvd")
    thread = threading.Thread(target=run.run)
    thread.start()
    wait_until(lambda: len(seen.results) > 5)
    run.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    status = run.status()
    assert 5 < status["denoised"] == status["received"]


def test_the_run_ends_after_n_frames_and_when_nothing_comes():
    movie = noisy_movie(10)

    class Endless(Source):
        def frames(self):
            yield from movie
            self.stopping.wait()

    seen = Results()
    assert run_of(Endless(), [seen], idle_s=3.0).run()["denoised"] == 10
    assert run_of(Endless(), [seen], n_frames=7).run()["denoised"] == 7


def test_a_scan_needs_all_its_patterns():
    with pytest.raises(LowdoseError, match="a scan needs all"):
        run_of(Script([]), [], scan=(2, 2), policy="newest-wins")
    with pytest.raises(LowdoseError, match="expected one of block"):
        run_of(Script([]), [], policy="fast")


# --- the command


def test_the_command_saves_and_says(tmp_path, lowdose):
    np.save(tmp_path / "m.npy", noisy_movie(20))
    address = f"replay:{tmp_path / 'm.npy'}@500"
    outcome = lowdose("live", address, "-o", tmp_path / "a.h5", "--model", "wcvd")
    assert outcome.code == 0
    assert "chosen from the first 16 frames" in outcome.err and "saved 20 (raw 20)" in outcome.out
    assert (tmp_path / "a.h5").is_file() and (tmp_path / "a.raw.h5").is_file()
    outcome = lowdose("live", address, "-o", tmp_path / "a.h5")
    assert outcome.code == 2 and "exists" in outcome.err
    outcome = lowdose("live", address, "-o", tmp_path / "b.tif", "--no-raw", "--json", "--model", "gaussian:1")
    assert outcome.code == 0 and '"end": true' in outcome.out and not (tmp_path / "b.raw.tif").exists()


def test_resuming_a_watched_folder(tmp_path, lowdose):
    folder = tmp_path / "in"
    folder.mkdir()
    movie = noisy_movie(6)
    arguments = ("live", f"watch:{folder}", "-o", tmp_path / "a.h5", "--model", "gaussian:1", "--n-frames", "3")
    for first, name in ((0, "a.h5"), (3, "a-2.h5")):
        for number in range(first, first + 3):
            np.save(folder / f"f{number}.npy", movie[number])
        assert lowdose(*arguments, *(["--resume"] if first else [])).code == 0
        with open_stack(tmp_path / name.replace(".", ".raw.").replace("-2.raw", ".raw-2")) as reader:
            np.testing.assert_array_equal(np.stack([reader.read(n)[0] for n in range(3)]), movie[first : first + 3])
        assert (tmp_path / name).is_file()


def started(arguments):
    """`lowdose live` as a process, in a group of its own as from a terminal, and its first status that tells of 20."""
    command = [sys.executable, "-u", "-c", "from lowdose.cli.main import main; main()", "live", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*command, "--json"], **pipes, text=True, start_new_session=True)
    for line in process.stdout:
        if json.loads(line)["raw_saved"] > 20:
            return process
    raise AssertionError(process.communicate()[1])


def last_status(process):
    """The exit code, the status at the end, and what was said."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, json.loads(out.splitlines()[-1]), err


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_run_in_order(tmp_path, number):
    """What came by then is denoised and saved, the page goes away, and the files are complete."""
    pytest.importorskip("websockets")
    movie = noisy_movie(4000, 16, 16)
    np.save(tmp_path / "m.npy", movie)
    process = started([f"replay:{tmp_path / 'm.npy'}@200", "-o", tmp_path / "a.h5", "--model", "wcvd", "--view"])
    os.killpg(process.pid, number)
    code, status, err = last_status(process)
    assert (code, status["end"], status["failures"]) == (0, True, [])
    assert 20 < status["received"] == status["denoised"] == status["saved"] == status["raw_saved"] < 4000
    with open_stack(tmp_path / "a.raw.h5") as reader:
        np.testing.assert_array_equal(
            np.stack([reader.read(n)[0] for n in range(reader.n_frames)]), movie[: status["saved"]]
        )
    page = re.search(r"the page: http://([^/]+)", err)[1]
    with pytest.raises(OSError), urllib.request.urlopen(f"http://{page}/", timeout=PATIENCE_S):
        pass
    assert not list(tmp_path.glob(".lowdose*"))


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
def test_a_second_ctrl_c_gives_up_what_waits(tmp_path):
    """A slow method has a backlog of minutes; the raw frames are all saved, and the run ends."""
    movie = noisy_movie(2000, 128, 128)
    np.save(tmp_path / "m.npy", movie)
    process = started([f"replay:{tmp_path / 'm.npy'}@1000", "-o", tmp_path / "a.tif", "--model", "nlm:1"])
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(1)
    code, status, _ = last_status(process)
    assert code == 130 and status["end"]
    assert status["denoised"] < status["received"] == status["raw_saved"]
    with open_stack(tmp_path / "a.raw.tif") as reader:
        assert reader.n_frames == status["raw_saved"]
    with open_stack(tmp_path / "a.tif") as reader:
        assert reader.n_frames == status["saved"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--no-raw"),
        (["--no-raw", "--shape", "5"], "--shape 5"),
        (["--no-raw", "--dtype-in", "u3"], "--dtype-in u3"),
        (["--no-raw", "--scan", "3"], "--scan 3"),
        (["--no-raw", "--buffer", "much"], "much"),
        (["-o", "a.mp4"], "saved as"),
    ],
)
def test_arguments_that_are_none(tmp_path, lowdose, arguments, words):
    np.save(tmp_path / "m.npy", noisy_movie(3))
    outcome = lowdose("live", f"replay:{tmp_path / 'm.npy'}@100", *arguments)
    assert outcome.code == 2 and words in outcome.err
