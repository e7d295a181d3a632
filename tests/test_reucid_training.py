"""REUCID's classifier: the network, what it learns from, and the model file it becomes."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from lowdose.errors import LowdoseError
from lowdose.reucid import denoise
from lowdose.reucid.classifier import Classifier
from lowdose_export.reucid import export_reucid
from lowdose_export.reucid import main as export_command
from lowdose_train.checkpoint import save
from lowdose_train.reucid import Example, ReucidNetwork, evaluate, example, loss_of, train
from lowdose_train.reucid import main as train_command


@pytest.fixture(scope="module")
def examples():
    return [example(seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("reucid") / "reucid.pt"
    result = CliRunner().invoke(train_command, ["-o", str(path), "--images", "2", "--held-out", "1", "--epochs", "1"])
    assert result.exit_code == 0, result.output
    return path


def invented_example(n=6, n_pixels=200, seed=0):
    """Pictures that eigenpatches add, a truth, and the example that describes them."""
    random = np.random.default_rng(seed)
    added, truth = random.standard_normal((n, n_pixels)), random.standard_normal(n_pixels)
    return (
        added,
        truth,
        Example(
            eigenpatch=torch.zeros(n, 1, 25, 25),
            eigenvalue=torch.zeros(n, 1),
            gram=torch.from_numpy(added @ added.T / n_pixels),
            gain=torch.from_numpy(added @ truth / n_pixels),
            power=float(truth @ truth / n_pixels),
            noise=1.0,
        ),
    )


def test_the_network_has_as_many_parameters_as_the_published_one():
    network = ReucidNetwork()
    assert sum(parameter.numel() for parameter in network.parameters()) == 2830
    assert network(torch.zeros(3, 1, 25, 25), torch.zeros(3, 1)).shape == (3, 1)


def test_the_error_of_a_choice_is_that_of_the_image_it_makes():
    added, truth, invented = invented_example()
    for choice in np.random.default_rng(1).integers(0, 2, (8, 6)):
        wanted = np.mean((truth - choice @ added) ** 2)
        assert float(invented.error(torch.from_numpy(choice).double())) == pytest.approx(wanted)
    every = [np.mean((truth - added[:rank].sum(axis=0)) ** 2) for rank in range(7)]
    assert invented.best_rank_error() == pytest.approx(min(every))


def test_the_error_of_doubtful_verdicts_is_the_mean_over_all_choices():
    _, _, invented = invented_example(n=3)
    likely = torch.tensor([0.2, 0.7, 0.5], dtype=torch.float64)
    mean = 0.0
    for number in range(8):
        choice = torch.tensor([number >> k & 1 for k in range(3)], dtype=torch.float64)
        mean += float(torch.where(choice > 0, likely, 1 - likely).prod() * invented.error(choice))
    assert float(invented.error(likely)) == pytest.approx(mean)


def test_an_example_knows_the_error_of_the_denoised_image(examples):
    """Keeping nothing leaves the contrast of the truth; the best choice leaves less than the noise."""
    for e in examples:
        assert e.eigenpatch.shape[1:] == (1, 25, 25)
        assert len(e.gain) == len(e.eigenvalue) == len(e.eigenpatch)
        assert 0 < e.best_rank_error() <= e.power
        assert e.best_rank_error() < e.noise


def test_training_lowers_the_loss(examples):
    torch.manual_seed(0)
    fresh, network = ReucidNetwork(), train(examples, epochs=150, seed=0)
    with torch.no_grad():
        before, after = (float(loss_of(one, examples, 0, False)) for one in (fresh, network))
    assert after < before - 0.1
    scores = evaluate(network, examples)
    assert scores["mean_loss_db"] < evaluate(fresh, examples)["mean_loss_db"]
    assert 0 < scores["mean_kept"] < 64


def test_the_model_file_gives_the_verdicts_of_the_network(checkpoint, tmp_path):
    out = tmp_path / "reucid.onnx"
    result = CliRunner().invoke(export_command, [str(checkpoint), "-o", str(out)])
    assert result.exit_code == 0, result.output
    metadata = Classifier(out).metadata
    assert (metadata["method"], metadata["kind"], metadata["seed"]) == ("reucid", "classifier", 0)
    assert "seeds 5000 to 5001" in metadata["data"]
    image = np.random.default_rng(0).standard_normal((40, 40)).cumsum(axis=1)
    assert denoise(image, model=out).shape == (40, 40)


def test_the_file_runs_with_any_number_of_eigenpatches(checkpoint, tmp_path):
    out = tmp_path / "reucid.onnx"
    assert export_reucid(checkpoint, out) < 1e-5
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["lowdose"])["spec"] == 1
    for n in (0, 1, 7):
        inputs = {"eigenpatch": np.zeros((n, 1, 25, 25), np.float32), "eigenvalue": np.zeros((n, 1), np.float32)}
        assert session.run(["useful"], inputs)[0].shape == (n, 1)


def test_export_refuses_other_checkpoints_and_existing_files(checkpoint, tmp_path):
    (tmp_path / "there.onnx").touch()
    with pytest.raises(LowdoseError, match="exists"):
        export_reucid(checkpoint, tmp_path / "there.onnx")
    save({"method": "wcid"}, tmp_path / "other.pt")
    with pytest.raises(LowdoseError, match="checkpoint of wcid"):
        export_reucid(tmp_path / "other.pt", tmp_path / "out.onnx")
