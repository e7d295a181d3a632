"""Warnings about data that a model was not made for, and frames published to other programs."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from live_peers import PATIENCE_S, Movie, live, noisy_movie, wait_until
from lowdose.errors import LowdoseError
from lowdose.live.likeness import noise_of, noisiest_training, warnings_for
from lowdose.methods import find_method


def counts(dose, n_frames=16, side=96, seed=1):
    y, x = np.mgrid[:side, :side]
    scene = dose * (1 + 0.3 * np.cos(2 * np.pi * x / 9) * np.cos(2 * np.pi * y / 11))
    return np.random.default_rng(seed).poisson(scene, (n_frames, side, side)).astype(np.float32)


def test_noise_of_frames_that_are_known():
    correlation, relative = noise_of(counts(4.0))
    assert abs(correlation) < 0.02
    assert relative == pytest.approx(1 / np.sqrt(4.0), rel=0.05)
    blurred = uniform_filter(counts(4.0), (0, 2, 2))
    assert noise_of(blurred)[0] == pytest.approx(0.5, abs=0.03)  # two of four pixels are shared
    assert noise_of(np.ones((2, 5, 5), np.float32)) == (0.0, 0.0)
    with_pedestal = counts(100.0) + 1000
    assert noise_of(with_pedestal)[1] < 0.5


def test_disks_that_move_over_a_scan_are_no_correlated_noise():
    y, x = np.mgrid[:64, :64]
    places = [(32 - k % 7, 30 - k // 7) for k in range(42)]
    scene = np.array([20 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 80) + 1 for cy, cx in places])
    patterns = np.random.default_rng(2).poisson(scene).astype(np.float32)
    assert abs(noise_of(patterns)[0]) < 0.03
    assert noise_of(uniform_filter(patterns, (0, 2, 2)))[0] > 0.25
    assert warnings_for(list(patterns), find_method("gaussian:1")) == []


@pytest.mark.parametrize("model", ["wcvd", "wcid"])
def test_warnings_say_what_is_unlike(model):
    method = find_method(model)
    assert noisiest_training(method) == pytest.approx(1 / np.sqrt(0.3), rel=0.02)
    for dose in (0.3, 1.0, 4.0, 20.0):
        assert warnings_for(counts(dose), method) == []
    assert "noisier" in warnings_for(counts(0.03), method)[0]
    (found,) = warnings_for(uniform_filter(counts(4.0), (0, 2, 2)), method)
    assert "correlated (+0.5" in found
    assert warnings_for(counts(1.0, n_frames=1), method) == []


def test_methods_without_training_are_warned_of_correlation_only():
    method = find_method("gaussian:1")
    assert noisiest_training(method) is None
    assert warnings_for(counts(0.03), method) == []
    assert len(warnings_for(uniform_filter(counts(4.0), (0, 2, 2)), method)) == 1


def test_the_run_passes_warnings_on():
    run, status = live(Movie(uniform_filter(counts(4.0), (0, 2, 2))), model="wcvd")
    assert len(status["warnings"]) == 1 and status["notice"] == status["warnings"][0]
    assert any(message.startswith("warning: the noise") for _, message in run.messages)


def test_published_frames_are_the_results():
    zmq = pytest.importorskip("zmq")
    from lowdose.live.publish import Publisher

    movie = noisy_movie(12)
    publisher = Publisher("tcp://127.0.0.1:*")
    got, ready = [], [0]
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.connect(publisher.address)
        subscriber.subscribe("")

        def receive():
            while subscriber.poll(1000 * PATIENCE_S):
                told, pixels = subscriber.recv_multipart()
                if told == b"ready":
                    ready.append(int(pixels))
                    continue
                told = json.loads(told)
                got.append((told["number"], np.frombuffer(pixels, told["dtype"]).reshape(told["shape"])))
                if told["number"] == 11:
                    return

        thread = threading.Thread(target=receive)
        thread.start()
        n_sent = 0
        while len(ready) == 1:  # until the subscription has arrived
            n_sent += 1
            publisher._socket.send_multipart([b"ready", str(n_sent).encode()])
            time.sleep(0.02)
        wait_until(lambda: ready[-1] == n_sent)  # nothing else waits to be sent
        live(Movie(movie), listeners=[publisher], dtype="same")
        thread.join(PATIENCE_S)
    assert [number for number, _ in got] == list(range(12))
    assert got[0][1].dtype == movie.dtype and got[0][1].shape == movie.shape[1:]


def test_an_address_that_cannot_be_published_at():
    pytest.importorskip("zmq")
    from lowdose.live.publish import Publisher

    for address in ("nowhere", "tcp://127.0.0.1:port"):
        with pytest.raises(LowdoseError, match="give an address"):
            Publisher(address)
