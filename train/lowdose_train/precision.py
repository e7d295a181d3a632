"""Convolutions in bfloat16 where the processor has instructions for them: twice as fast, and enough to learn with."""

from __future__ import annotations

import torch

from lowdose_train.settings import Settings


def mixed_precision(settings: Settings, device: torch.device) -> torch.autocast:
    """A context for the forward pass; weights, losses and gradients stay float32.

    By `settings.precision`: "auto" takes bfloat16 on GPUs that have it and on processors with AVX512-BF16 or AMX.
    """
    if settings.precision == "auto":
        on_gpu = device.type == "cuda"
        wanted = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu.get_capabilities().get("avx512_bf16", False)
    else:
        wanted = settings.precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)
