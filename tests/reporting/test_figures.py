"""Figures 4 and 5: what is drawn where, the numbers beside it, and the same bytes twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import AxesImage

from cmcgns.evaluation.alignment import Model
from cmcgns.files import read_json
from cmcgns.parquet import write_parquet
from cmcgns.reporting import figures
from cmcgns.sources.vocabulary import CHEXPERT_LABELS, COMPETITION


def layers(axes) -> tuple[AxesImage, AxesImage]:
    film, heat = axes.get_images()
    return film, heat


def test_heat_and_boxes_lie_where_the_network_looked():
    films = np.zeros((2, 256, 256), np.uint8)
    maps = np.zeros((2, 4, 4))
    maps[0, 0, 3] = 1  # the upper right cell of what the network saw
    field = (16.0, 16.0, 240.0, 240.0)
    box = np.array([[184.0, 16.0, 240.0, 72.0]])
    figure = figures.draw_attention(films, maps, [field] * 2, [box, np.empty((0, 4))], ["one", "two"], "t")
    first, second, *empty = figure.axes
    film, heat = layers(first)
    assert tuple(heat.get_extent()) == (16, 240, 240, 16)  # left, right, bottom, top in the film's pixels
    hottest = np.unravel_index(heat.get_array().argmax(), heat.get_array().shape)
    x, y = 16 + hottest[1] + 0.5, 16 + hottest[0] + 0.5
    (frame,) = first.patches
    assert frame.get_x() <= x <= frame.get_x() + frame.get_width()
    assert frame.get_y() <= y <= frame.get_y() + frame.get_height()
    assert first.get_title() == "one" and len(second.patches) == 0 and not empty[0].get_images()


@pytest.fixture
def drawn(alignment_world, aligned_mimic, monkeypatch, tmp_path):
    """Draws the planted model's attention figure from these files."""
    model = alignment_world.planted_model(aligned_mimic)
    monkeypatch.setattr(Model, "load", lambda *_: model)

    def draw(files: dict[str, Path], name: str) -> int:
        return figures.attention_figure(
            objective="planted", title="Planted", weights=Path("w"), settings=alignment_world.SETTINGS,
            png=tmp_path / f"{name}.png", pdf=tmp_path / f"{name}.pdf", **files,
        )["sentences"]  # fmt: skip

    return draw


@pytest.fixture
def shown(monkeypatch) -> list[tuple]:
    """What each figure was drawn from."""
    kept = []
    original = figures.draw_attention
    monkeypatch.setattr(figures, "draw_attention", lambda *args: kept.append(args) or original(*args))
    return kept


def test_the_figure_shows_chosen_sentences_with_their_boxes_and_repeats_to_the_byte(
    drawn, shown, aligned_mimic, alignment_world, tmp_path
):
    count = drawn(aligned_mimic, "a")
    films, maps, fields, boxes, sentences, title = shown[0]
    assert count == len(sentences) == 4 and title == "Planted"
    for film, heat, box, phrase in zip(films, maps, boxes, sentences, strict=True):
        cell = next(c for c in range(16) if alignment_world.sentence(c) == phrase)
        assert heat.argmax() == cell  # the planted model looks at the bright cell
        (x1, y1, x2, y2) = box[0].astype(int)
        assert (film[y1:y2, x1:x2] == 230).all() and (film == 230).sum() == 64 * 64
    drawn(aligned_mimic, "b")
    for ending in ("png", "pdf"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(("said", "panels"), [("small effusion", 4), ("no effusion", 0)])
def test_unmarked_data_shows_sentences_of_its_reports(drawn, shown, aligned_mimic, tmp_path, said, panels):
    reports = pd.read_parquet(aligned_mimic["reports"])
    reports["sentences"] = [[said]] * len(reports)
    truth = ("findings", "sentences", "images")
    files = {name: path for name, path in aligned_mimic.items() if name not in truth}
    write_parquet(reports, tmp_path / "r.parquet")
    assert drawn(files | {"reports": tmp_path / "r.parquet"}, "unmarked") == panels
    assert shown[0][4] == [said] * panels
    assert (tmp_path / "unmarked.pdf").exists()


@pytest.fixture
def features(tmp_path):
    """Writes an index, a store's table and features of `count` single-finding images a class; returns the call."""

    def write(count: int, spread: float) -> dict:
        rng = np.random.default_rng(0)
        targets = np.repeat(np.arange(5), count)
        ids = [f"i{n}" for n in range(5 * count)]
        rows = [dict.fromkeys(CHEXPERT_LABELS, 0.0) | {COMPETITION[t]: 1.0} for t in targets]
        index = pd.DataFrame(rows).assign(image_id=ids, group_id=ids, frontal=True, official_split="train")
        order = rng.permutation(
            5 * count + 1
        )  # rows of the store in another order, one of them of no use here
        table = pd.DataFrame({"image_id": [*ids, "bad"], "row": [*order[:-1], -1]})
        x = np.zeros((5 * count + 1, 2, 8), np.float32)
        x[order[:-1], 0] = np.eye(8)[targets] + spread * rng.normal(size=(5 * count, 8))
        x[:, 1] = rng.normal(size=(5 * count + 1, 8))  # a random crop, which must not be shown
        np.save(tmp_path / "x.npy", x)
        write_parquet(index, tmp_path / "index.parquet")
        write_parquet(table, tmp_path / "store.parquet")
        return {
            "features": tmp_path / "x.npy",
            "store_table": tmp_path / "store.parquet",
            "index": tmp_path / "index.parquet",
            "seed": 0,
            "title": "t",
        }

    return write


def files(stem: Path) -> dict[str, Path]:
    return {ending: stem.with_suffix(f".{ending}") for ending in ("png", "pdf", "json")}


def test_clusters_are_measured_and_drawn_and_repeat_to_the_byte(features, tmp_path):
    options = features(12, 0.05)
    numbers = figures.tsne_figure(**options, **files(tmp_path / "a"))
    assert numbers["images_a_class"] == 12 and numbers["k"] == 10
    assert numbers["knn_purity"] == 1.0 and numbers["silhouette"] > 0.8
    assert numbers["knn_chance"] == pytest.approx(11 / 59)
    assert read_json(tmp_path / "a.json") == numbers
    figures.tsne_figure(**options, **files(tmp_path / "b"))
    for ending in ("png", "pdf"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_the_plane_keeps_clusters_together():
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(5), 20)
    plane = figures.embed_in_plane(np.eye(8)[targets] + 0.05 * rng.normal(size=(100, 8)), seed=0)
    distance = np.linalg.norm(plane[:, None] - plane, axis=2) + np.diag(np.full(100, np.inf))
    assert (targets[distance.argmin(1)] == targets).all()


def test_too_few_images_are_said_and_not_measured(features, tmp_path):
    numbers = figures.tsne_figure(**features(1, 0.1), **files(tmp_path / "few"))
    assert numbers["images_a_class"] == 1 and numbers["silhouette"] is None
    assert {path.suffix for path in tmp_path.glob("few.*")} == {".png", ".pdf", ".json"}
