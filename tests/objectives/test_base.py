import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
import torch

from cmcgns.objectives.base import Objective, gather, gather_uneven, total_loss

SCRIPT = Path(__file__).with_name("two_processes.py")


def test_total_is_the_weighted_sum():
    terms = {"a": torch.tensor(2.0), "b": torch.tensor(3.0)}
    assert total_loss(terms, {"b": 10.0, "a": 0.5}) == 31
    with pytest.raises(ValueError, match="differ"):
        total_loss(terms, {"a": 1.0})


def test_gather_is_the_identity_in_one_process():
    x = torch.ones(3, requires_grad=True)
    assert gather(x) is x and gather_uneven(x) is x


def test_an_objective_trains_everything_and_logs_nothing_unless_it_says_so():
    assert Objective().unused_parameters("stage1") == [] and Objective().logs() == {}


@pytest.fixture
def two_processes():
    """The module two_processes.py of this folder."""
    return SourceFileLoader("two_processes", str(SCRIPT)).load_module()


@pytest.mark.usefixtures("float64")
def test_two_processes_equal_one(tmp_path, two_processes):
    """Losses, averaged gradients and centroids of two processes against one that sees the whole batch."""
    other = subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path)], stderr=subprocess.PIPE, text=True)
    try:
        first = two_processes.work(0, tmp_path)
        _, errors = other.communicate(timeout=60)
    finally:
        other.kill()
    assert other.returncode == 0, errors
    second = torch.load(tmp_path / "second.pt")
    assert first["integers"].tolist() == [0, 7, 1, 7]
    assert torch.equal(first["rows"][:, 0], torch.arange(10.0))
    # each process computes the whole loss, so a row's gradient arrives from both
    gradient = torch.cat([first["rows' gradient"], second["rows' gradient"]])
    assert torch.equal(gradient[:, 0], 2 * torch.arange(10.0))
    everything = slice(None)
    alone = two_processes.alignment(everything, everything)
    alone["centroids"] = two_processes.clustering(everything)
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value)
