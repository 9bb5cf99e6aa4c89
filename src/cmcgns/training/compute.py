"""What a phase cost: `compute.json`. Times differ between equal runs, so nothing reads or compares this file."""

import platform
import resource
import sys
from typing import Any

import torch


def ledger(
    *,
    device: torch.device,
    devices: int,
    passes: tuple[int, int],
    pairs: int,
    updates: int,
    seconds: list[float],
    validation_seconds: float,
    peak_mib: float,
) -> dict[str, Any]:
    """The costs of a phase by name; of validation its seconds alone, of work lost to a kill nothing.

    Args:
        passes: images a pair that go through an image encoder with a gradient, and without.
        pairs: of all epochs and devices.
        seconds: of training, an epoch each.
    """
    cuda = device.type == "cuda"
    cpu = f"CPU {platform.machine()}, {torch.get_num_threads()} thread(s)"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else cpu,
        "devices": devices,
        "pairs": pairs,
        "updates": updates,
        "image_passes_with_gradient": pairs * passes[0],
        "image_passes_without_gradient": pairs * passes[1],
        "seconds": sum(seconds),
        "validation_seconds": validation_seconds,
        "pairs_per_second": [pairs / len(seconds) / epoch for epoch in seconds],
        "peak_memory_mib": peak_mib,
        "peak_memory_of": "the allocator of one GPU" if cuda else "one process, resident",
    }


def peak_mib(device: torch.device) -> float:
    """The highest use of memory so far, MiB: of the GPU's allocator, or of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
