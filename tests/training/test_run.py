"""What the step `pretrain` hands to the loop."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cmcgns.training import run
from cmcgns.training.data import Demand


@pytest.fixture
def handed_over(monkeypatch, tmp_path):
    """Runs `pretrain` with a model and pairs that are none, and gives what was asked of its helpers."""

    def call(views: int, text: str, files: dict) -> dict:
        seen = {}
        objective = SimpleNamespace(views=views, text=text)

        def load_pairs(**options):
            seen["tokens"] = options["tokens"]
            return {"train": [], "valid": []}

        def build_objective(kind, encoders, parameters, **options):
            seen["vocab_size"] = options["vocab_size"]
            seen["image weights"] = encoders["image"]["weights"]
            return objective

        monkeypatch.setattr(run, "build_objective", build_objective)
        monkeypatch.setattr(run, "load_weights", lambda _, start: seen.update(start=start))
        monkeypatch.setattr(run, "load_pairs", load_pairs)
        monkeypatch.setattr(run, "train_phase", lambda *_, **options: seen.update(options))
        monkeypatch.setattr(run, "read_meta", lambda path: {"vocab_size": 77})
        settings = {
            "class": "some.Method", "encoders": {"image": {"weights": "a file"}}, "objective": {}, "augmentation": "moco_v2", "training": {"epochs": 1},
            "images": {"size": 64, "resize": "direct224"},
            "pretraining": {"seed": 3, "pairing": "image", "devices": 1, "threads": 1},
        }  # fmt: skip
        made = {name: tmp_path / name for name in ("best", "last", "history", "compute")}
        run.pretrain(arm="some", phase="stage1", identity="abc", **files, **made, **settings)
        return seen

    return call


FILES = {"store": "a.npy", "store_table": "a.parquet", "index": "i.parquet", "split": "s.parquet"}


def test_a_method_of_images_alone_asks_for_no_text(handed_over):
    seen = handed_over(2, "none", FILES)
    assert seen["demand"] == Demand(views=2, text="none", augmentation="moco_v2")
    assert seen["tokens"] is None and seen["vocab_size"] is None


def test_a_method_with_text_gets_the_tokens_and_their_vocabulary(handed_over):
    seen = handed_over(1, "sentence", {**FILES, "tokens": "t.parquet"})
    assert seen["demand"] == Demand(views=1, text="sentence", augmentation="moco_v2")
    assert seen["tokens"] == "t.parquet" and seen["vocab_size"] == 77


def test_the_phase_before_and_a_file_of_the_encoder_reach_the_model(handed_over, tmp_path):
    seen = handed_over(1, "none", {**FILES, "start": "before", "encoder": "resnet.pth"})
    assert seen["start"] == "before" and seen["image weights"] == "resnet.pth"
    assert seen["identity"] == "abc" and seen["out"] == tmp_path and seen["phase"] == "stage1"
    seen = handed_over(1, "none", FILES)
    assert "start" not in seen and seen["image weights"] == "a file"
