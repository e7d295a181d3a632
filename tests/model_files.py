"""Model files made on the spot: random networks, exported and checked like real ones."""

from __future__ import annotations

import torch

from lowdose_export.blind_spot import export_blind_spot
from lowdose_train.blind_spot import METHOD_TAPS, BlindSpotNetwork
from lowdose_train.checkpoint import save


def random_network(method, seed):
    torch.manual_seed(seed)
    network = BlindSpotNetwork(METHOD_TAPS[method])
    with torch.no_grad():
        network.branch_logits.normal_()
    return network


def make_checkpoint(folder, method, seed):
    network = random_network(method, seed)
    folder.mkdir(parents=True)
    record = {"settings": {}, "metrics": {}, "seed": seed, "commit": "none", "data": "random weights"}
    save({"method": method, "state_dict": network.state_dict(), **record}, folder / "best.pt")
    return folder / "best.pt"


def make_model_file(folder, method, n_weight_sets=2):
    """Path of a model file with random weights of seeds 0, 1, ..."""
    checkpoints = [make_checkpoint(folder / f"{method}-{seed}", method, seed) for seed in range(n_weight_sets)]
    path = folder / f"{method}.onnx"
    export_blind_spot(checkpoints, path)
    return path


def weights_of(network):
    """Weights as the references take them: branches and their shares."""
    branches = [
        tuple(part.detach().double().numpy() for part in (b.kernel * b.blind_mask, b.mixing, b.head))
        for b in network.branches
    ]
    return branches, torch.softmax(network.branch_logits, 0).detach().double().numpy()
