"""`lowdose bench`: what is timed is right, and what the rows say adds up. No test looks at how long anything takes."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from lowdose import NO_LOW_PASS, LowdoseError
from lowdose.bench.camera import at_camera_rate
from lowdose.bench.compare import compare, interleaved
from lowdose.bench.machine import machine, peak_memory_mb
from lowdose.bench.streams import NO_OP, Case, measure
from lowdose_export.forms import FORMS, blind_spot_form
from lowdose_export.graph import weight_bank
from lowdose_export.no_op import no_op_model
from lowdose_export.parity import run_torch
from model_files import random_network
from tiny_models import tiny_model

TOLERANCE = 1e-5  # sums of some 400 products in another order; a share of the range


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("no-op", (1, 7)),
        ("wcvd", (33, 48)),
        ("wcid", (7, 61)),
        ("udvd-lite", (32, 37)),
        ("udvd-4d-lite", (32, 32)),
        ("n2v-lite-dual", (32, 48)),
        ("synthesis3d-lite", (16, 16)),
        ("wiener", (48, 61)),
        ("reucid", (64, 49)),
        ("gaussian:1", (20, 31)),
    ],
)
def test_every_method_is_measured(name, size):
    row = measure(Case(name, *size, threads=1), 3)
    assert row["size"] == f"{size[0]}x{size[1]}"
    assert row["frames"] >= 3
    assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] <= row["max_ms"]
    assert row["mpixel_per_s"] == pytest.approx(row["frames_per_s"] * size[0] * size[1] / 1e6)
    assert row["device"] == "cpu"
    json.dumps(row)


def test_blocks_are_timed_whole():
    row = measure(Case("synthesis3d-lite", 16, 16, threads=1), 1)
    assert row["frames"] > 1


def test_the_stages_of_a_low_pass_on_tiles_are_named(model_files):
    row = measure(Case(str(model_files["wcvd"]), 40, 40, threads=1, cutoff=0.2), 2)
    assert {"convert", "network", "output"} <= set(row["stages_p50_ms"])
    assert row["cutoff"] == 0.2


def test_a_model_that_gives_wrong_frames_is_not_timed(tmp_path):
    """Its file says that it sees no neighbours, so tiles get no margin, but it does."""
    blur = (
        "w = Constant <value = float[1,1,3,3] {1,1,1,1,1,1,1,1,1}> () denoised = Conv <pads = [1,1,1,1]> (frame_0, w)"
    )
    with pytest.raises(LowdoseError, match="wrong frames of 30x30: nothing was timed"):
        measure(Case(str(tiny_model(tmp_path / "blur.onnx", blur)), 30, 30), 1)


def test_a_camera_counts_late_frames():
    relaxed = at_camera_rate(Case("no-op", 4, 4, threads=1), 4.0, 3)
    assert relaxed["late"] == 0
    hurried = at_camera_rate(Case("wcvd", 64, 64, threads=1), 1e7, 8)
    assert hurried["late"] == 8
    assert hurried["max_ms"] >= hurried["p50_ms"] > 0


def test_the_machine_is_named():
    facts = machine()
    assert facts["cores"] >= 1
    assert facts["versions"]["numpy"] == np.__version__
    assert peak_memory_mb() is None or peak_memory_mb() > 10


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["wcvd", "wcid"])
@pytest.mark.parametrize("cutoff", [NO_LOW_PASS, 0.2])
def test_every_graph_form_gives_the_numbers_of_the_network(form, method, cutoff):
    networks = [random_network(method, seed) for seed in range(2)]
    n_taps = networks[0].branches[0].kernel.shape[1]
    stack = np.random.default_rng(3).poisson(4, (3, 13, 18)).astype(np.float32)
    model = blind_spot_form(form, weight_bank(networks), 1, stack.shape[1:], cutoff)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    taps = stack if n_taps == 3 else stack[1:2]
    (got,) = session.run(None, {f"frame_{tap}": frame[None, None] for tap, frame in enumerate(taps)})
    wanted = run_torch(networks[1], stack, n_taps, cutoff)[1]
    np.testing.assert_allclose(got[0, 0], wanted, rtol=0, atol=TOLERANCE * np.ptp(wanted))


@pytest.mark.parametrize("cutoff", [NO_LOW_PASS, 0.2])
def test_engines_are_compared(model_files, cutoff):
    row = compare(Case(str(model_files["wcvd"]), 24, 37, threads=1, cutoff=cutoff), 2)
    engines = [(engine["engine"].split()[0], engine["form"]) for engine in row["engines"]]
    assert engines[0] == ("lowdose", "stream")
    assert [form for name, form in engines if name == "ONNX"] == list(FORMS)
    assert ("PyTorch", "eager") in engines
    assert "OpenVINO" in {name for name, _ in engines} or any("openvino" in reason for reason in row["missing"])
    for engine in row["engines"]:
        assert engine["ratio"] == pytest.approx(engine["p50_ms"] / row["engines"][0]["p50_ms"])


def test_a_u_net_is_compared_as_it_is_in_the_file():
    row = compare(Case("n2v-lite", 32, 48, threads=1), 2)
    assert {("ONNX", "as in the file"), ("PyTorch", "eager")} <= {
        (engine["engine"].split()[0], engine["form"]) for engine in row["engines"]
    }


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("wiener", (32, 32), "takes model files"),
        ("udvd-4d-lite", (32, 32), "once per frame"),
        ("udvd-lite", (32, 32), "once per frame"),
        ("synthesis3d-lite", (32, 32), "once per frame"),
        ("n2v-lite", (32, 33), "multiples of"),
    ],
)
def test_what_cannot_be_compared_is_refused(name, size, message):
    with pytest.raises(LowdoseError, match=message):
        compare(Case(name, *size), 1)


def test_rounds_alternate_their_order():
    order = []
    times = interleaved([lambda i=i: order.append(i) for i in range(3)], 3)
    assert order == [0, 1, 2, 2, 1, 0, 0, 1, 2]
    assert times.shape == (3, 3)
    assert (times > 0).all()


def test_the_no_op_file_is_what_its_command_makes():
    assert onnx.load(NO_OP) == no_op_model()


def test_the_command_prints_every_combination(lowdose, model_files):
    outcome = lowdose(
        "bench", "--model", model_files["wcvd"], "--model", "no-op", "--size", "32x48", "--size", "16x16",
        "--threads", "1", "--threads", "2", "--frames", "2", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert len(facts["rows"]) == 8
    assert {row["size"] for row in facts["rows"]} == {"32x48", "16x16"}
    assert facts["machine"]["cpu"]
    text = lowdose("bench", "--model", "no-op", "--size", "16x16", "--frames", "2").out
    assert "p99 ms" in text
    assert "convert" in text


def test_the_command_prints_comparisons_and_late_frames(lowdose, model_files):
    text = lowdose("bench", "--model", model_files["wcid"], "--size", "16x16", "--frames", "2", "--compare").out
    assert "1.00x  lowdose" in text
    assert "ONNX Runtime" in text
    text = lowdose("bench", "--model", "no-op", "--size", "8x8", "--frames", "3", "--camera", "100").out
    assert "of 3 at 100 frames/s" in text


@pytest.mark.parametrize(
    "arguments",
    [("--size", "huge"), ("--frames", "0"), ("--camera", "0"), ("--camera", "9", "--compare"), ("--model", "no such")],
)
def test_wrong_arguments_are_refused(lowdose, arguments):
    assert lowdose("bench", *arguments).code == 2
