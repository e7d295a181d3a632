"""What the trainings of U-Nets share: crops that can be halved often enough, and convolutions in bfloat16."""

from __future__ import annotations

import torch

from lowdose.errors import LowdoseError
from lowdose_train.settings import Settings


def mixed_precision(settings: Settings, device: torch.device) -> torch.autocast:
    """A context for the forward pass; weights, losses and gradients stay float32. Twice as fast, and enough to learn.

    By `settings.precision`: "auto" takes bfloat16 on GPUs that have it and on processors with AVX512-BF16 or AMX.
    """
    if settings.precision == "auto":
        on_gpu = device.type == "cuda"
        wanted = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu.get_capabilities().get("avx512_bf16", False)
    else:
        wanted = settings.precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def crop_side(settings: Settings, shortest_px: int, align_px: int) -> int:
    """Side of the crops of frames whose shortest side is `shortest_px`: a multiple of `align_px`.

    Raises LowdoseError where there is none.
    """
    side = settings.crop_for(shortest_px) // align_px * align_px
    if side == 0:
        raise LowdoseError(f"crops of {settings.crop_px} pixels are too small; give --crop {align_px} or more")
    return side
