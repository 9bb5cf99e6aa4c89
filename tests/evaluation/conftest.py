"""A small frozen trunk and images with one bright square each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from cmcgns.models.seeding import seeded

SIDE = 64


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors gain nothing from more threads and lose much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def float64(monkeypatch) -> Iterator[None]:
    """All that a test makes is float64, and stays it where the code asks for fp32: `.float()` gives float64 too.

    For tests that compute one thing in two ways, as with images in batches of other sizes: then float32 rounds in
    another way, in each CPU's own, and training magnifies it without bound.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def trunk() -> ResNet:
    """A random ResNet-10 in train mode, as a careless caller would hand it over."""
    with seeded(0, "test trunk"):
        trunk = ResNet(BasicBlock, [1, 1, 1, 1])
    trunk.fc = nn.Identity()
    return trunk.train()


@pytest.fixture
def squares() -> tuple[torch.Tensor, list[np.ndarray], torch.Tensor]:
    """Four images (4, 3, 64, 64) in [-1, 1], their box as fractions of the image, and their mask (4, 64, 64)."""
    corners = [(4, 8, 28, 32), (32, 4, 60, 28), (10, 34, 30, 60), (34, 36, 58, 56)]
    images, masks, boxes = -torch.ones(4, 3, SIDE, SIDE), torch.zeros(4, SIDE, SIDE), []
    for i, (x1, y1, x2, y2) in enumerate(corners):
        images[i, :, y1:y2, x1:x2] = 1
        masks[i, y1:y2, x1:x2] = 1
        boxes.append(np.array([[x1, y1, x2, y2]]) / SIDE)
    return images, boxes, masks


@pytest.fixture
def digest():
    """The hash of all bytes of a module's state, batch-norm statistics and counters included."""

    def digest(module: nn.Module) -> str:
        total = hashlib.sha256()
        for name, value in module.state_dict().items():
            total.update(name.encode() + value.detach().contiguous().numpy().tobytes())
        return total.hexdigest()

    return digest
