"""UDVD networks small enough for tests."""

from __future__ import annotations

import torch

from lowdose_train import udvd
from lowdose_train.checkpoint import save
from lowdose_train.settings import Settings

TINY = udvd.Width((4,), (4,), (6, 4), (4,), (4,), 4)
TINY_WITH_FILTER = udvd.Width((4,), (4,), (6, 4), (4,), (4,), 4, linear_px=5)


def random_udvd(kind, width=TINY_WITH_FILTER, blind_px=1, seed=0):
    """A network of random weights whose last layer is not zero."""
    torch.manual_seed(seed)
    network = kind(width, blind_px)
    with torch.no_grad():
        network.head.weight.normal_(0, 0.2)
        if network.filter is not None:
            network.filter.kernel.mul_(1 + 0.3 * torch.rand(network.filter.kernel.shape))
    return network.eval()


def make_udvd_checkpoint(folder, method, neighbours="3x3", seed=0):
    """Checkpoint of a random network of the width that "lite" stands for at the moment."""
    kind = udvd.MovieUdvd if method == "udvd" else udvd.ScanUdvd
    network = random_udvd(kind, udvd.WIDTHS["lite"], seed=seed)
    settings = Settings(method=method, neighbours=neighbours).to_mapping()
    record = {"settings": settings, "metrics": {}, "seed": seed, "commit": "none", "data": "random weights"}
    folder.mkdir(parents=True)
    save({"method": method, "state_dict": network.state_dict(), **record}, folder / "best.pt")
    return folder / "best.pt"
