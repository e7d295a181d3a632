"""One stream takes over from another: every frame once, in order, as if each had run alone."""

from __future__ import annotations

import numpy as np
import pytest

from live_peers import noisy_movie
from lowdose.errors import LowdoseError
from lowdose.live.relay import Relay, Runner
from lowdose.methods import find_method
from lowdose.methods.method import Options
from lowdose.source import ArraySource

N_FRAMES = 24


@pytest.fixture(scope="module")
def movie():
    return noisy_movie(N_FRAMES, dtype=np.float32)


@pytest.fixture(scope="module")
def opened(movie):
    """Opens streams by the name of their method; each method looks at the movie once."""
    prepared = {}

    def stream(name, shape=None):
        if name not in prepared:
            prepared[name] = find_method(name, device="cpu").prepare(ArraySource(movie), Options(threads=1))
        return prepared[name].stream(
            ArraySource(movie if shape is None else np.zeros((2, *shape), np.float32)), np.float32
        )

    return stream


def alone(stream, frames):
    return [out for frame in frames if (out := stream.push(frame)) is not None] + stream.flush()


def relayed(first, changes, frames):
    """Results and names of a relay in which `changes` take over before the frames that they are keyed by."""
    relay = Relay(Runner(first, lambda: "0"))
    results = []
    for number, frame in enumerate(frames):
        if number in changes:
            relay.take_over(changes[number])
        results += relay.push(frame)
    return results + relay.flush(), relay


N_BEFORE = {"wcid": 0, "wcvd": 1, "udvd-lite": 2}


@pytest.mark.parametrize("start", [0, 1, 5, 20, 22, 23])
@pytest.mark.parametrize("new", N_BEFORE)
@pytest.mark.parametrize("old", ["wcid", "wcvd", "wiener", "gaussian3d:1,1"])
def test_each_result_is_what_one_of_both_gives_alone(movie, opened, old, new, start):
    """Whichever is quicker, from the first frame whose neighbours the next stream has seen the results are its own."""
    runner = Runner(opened(new), lambda: "1", N_BEFORE[new])
    results, _ = relayed(opened(old), {start: runner}, movie)
    at = min(start + N_BEFORE[new], N_FRAMES)
    assert [name for _, name in results] == ["0"] * at + ["1"] * (N_FRAMES - at)
    expected = alone(opened(old), movie)[:at] + alone(opened(new), movie)[at:]
    np.testing.assert_array_equal([frame for frame, _ in results], expected)


def test_one_after_another_and_one_that_is_let_go(movie, opened):
    """The second is replaced before it could take over."""
    changes = {
        4: Runner(opened("wcid"), lambda: "1"),
        10: Runner(opened("udvd-lite"), lambda: "2", 2),
        11: Runner(opened("wcvd"), lambda: "3", 1),
    }
    results, _ = relayed(opened("wcvd"), changes, movie)
    assert [name for _, name in results] == ["0"] * 4 + ["1"] * 8 + ["3"] * 12
    expected = alone(opened("wcvd"), movie)
    np.testing.assert_array_equal([frame for frame, _ in results[12:]], expected[12:])


def test_a_frame_that_is_refused_is_given_to_neither(movie, opened):
    broken = movie[3].copy()
    broken[2, 2] = np.nan
    relay = Relay(Runner(opened("wcvd"), lambda: "0"))
    results = []
    for number, frame in enumerate(movie):
        if number == 5:
            relay.take_over(Runner(opened("udvd-lite"), lambda: "1", 2))
        if number in (5, 6, 7, 8):
            with pytest.raises(LowdoseError):
                relay.push(broken)
        results += relay.push(frame)
    results += relay.flush()
    expected = alone(opened("wcvd"), movie)[:7] + alone(opened("udvd-lite"), movie)[7:]
    np.testing.assert_array_equal([frame for frame, _ in results], expected)


def test_a_next_stream_that_fails_is_let_go(movie, opened):
    runner = Runner(opened("wcvd", (16, 16)), lambda: "1", 1)  # for frames of another shape
    results, relay = relayed(opened("wcvd"), {6: runner}, movie)
    assert isinstance(relay.failure, LowdoseError)
    np.testing.assert_array_equal([frame for frame, _ in results], alone(opened("wcvd"), movie))


def test_an_empty_sequence_ends_without_results(opened):
    assert relayed(opened("gaussian3d:1,1"), {}, [])[0] == []
