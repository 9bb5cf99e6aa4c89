"""A world of films with bright cells, and a model that sees and reads them perfectly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from cmcgns.evaluation.alignment import Model
from cmcgns.evaluation.zero_shot import prompts
from cmcgns.images.place import letterbox
from cmcgns.objectives.base import Batch, Objective
from cmcgns.parquet import write_parquet
from cmcgns.reports.tokens import tokenize_reports
from cmcgns.sources.vocabulary import CHEXPERT_LABELS

CELLS = 16  # a film is 4 x 4 cells of 64 pixels, and the network's crop shows them all but the margin
SETTINGS = {
    "size": 64, "resize": "pad256_crop224", "max_tokens": 16, "batch_size": 5, "threads": 1, "gallery": 100,
    "split_seed": 0, "panels": 4, "seed": 3,
    "encoders": {
        "image": {"arch": "resnet10", "weights": "random"},
        "text": {"name": "random", "hidden": 32, "layers": 1, "heads": 2, "vocab_size": 400},
    },
    "objective": {"dim": 16, "heads": 2, "num_clusters": 4, "predictor_hidden": 8, "decoder_widths": [8, 8, 8, 8]},
}  # fmt: skip


def film(cells: list[int]) -> np.ndarray:
    """(256, 256) uint8, dark but for these cells."""
    grid = np.full(CELLS, 20, np.uint8)
    grid[cells] = 230
    return grid.reshape(4, 4).repeat(64, 0).repeat(64, 1)


def box_of(cell: int) -> list[float]:
    row, column = divmod(cell, 4)
    return [column / 4, row / 4, (column + 1) / 4, (row + 1) / 4]


def sentence(cell: int) -> str:
    return f"bright square at place {'abcdefghijklmnop'[cell]}"


def write_store(folder: Path, source: str, ids: list[str], films: list[np.ndarray]) -> dict[str, Path]:
    squares, places = zip(*(letterbox(f, 256) for f in films), strict=True)
    table = pd.DataFrame([place._asdict() for place in places]).assign(
        image_id=ids, row=range(len(ids)), reason=""
    )
    files = {"store": folder / f"{source}.npy", "store_table": folder / f"{source}.store.parquet"}
    np.save(files["store"], np.stack(squares))
    write_parquet(table, files["store_table"])
    return files


def write_mimic(folder: Path) -> dict[str, Path]:
    """20 studies, the first 16 in the test split with one bright cell each; study 0 has a second, equal image."""
    cells = [n % CELLS for n in range(20)]
    ids, studies = [f"i{n:02}" for n in range(20)] + ["i00b"], [f"s{n:02}" for n in range(20)] + ["s00"]
    files = write_store(folder, "mimic", ids, [film([c]) for c in [*cells, 0]])
    index = pd.DataFrame({"image_id": ids, "group_id": studies, "study_id": studies, "frontal": True})
    split = ["test"] * 16 + ["train"] * 4 + ["test"]
    files |= {"index": folder / "mimic.index.parquet", "split": folder / "mimic.split.parquet"}
    write_parquet(index, files["index"])
    write_parquet(index[["image_id", "group_id"]].assign(task="pretraining", split=split), files["split"])
    said = [[sentence(c)] for c in cells]
    # a report without an image, so that the tokenizer knows the words of the prompts
    reports = pd.DataFrame(
        {"study_id": [*studies[:20], "words"], "sentences": [*said, prompts()[0]], "kept": True}
    )
    files |= {"reports": folder / "reports.parquet", "tokens": folder / "text" / "tokens.parquet"}
    files |= {name: folder / "text" / f"{name}.json" for name in ("tokenizer", "tokenizer_config")}
    write_parquet(reports, files["reports"])
    encoder = SETTINGS["encoders"]["text"]
    wanted = {name: files[name] for name in ("reports", "tokens", "tokenizer", "tokenizer_config")}
    tokenize_reports(**wanted, encoder=encoder, max_tokens=SETTINGS["max_tokens"])
    truth = folder / "truth"
    findings = pd.DataFrame([box_of(c) for c in [*cells, 0]], columns=["x1", "y1", "x2", "y2"])
    findings = findings.assign(image_id=ids, finding=0, label="Lung Lesion", source="mimic_cxr")
    write_parquet(findings, truth / "findings.parquet")
    sentences = pd.DataFrame({"study_id": studies[:20], "sentence": [s for (s,) in said]})
    sentences = sentences.assign(source="mimic_cxr", order=0, state="positive", label="Lung Lesion")
    write_parquet(sentences.assign(findings=[[0]] * 20), truth / "sentences.parquet")
    write_parquet(index[["image_id", "study_id"]].assign(source="mimic_cxr"), truth / "images.parquet")
    return files | {name: truth / f"{name}.parquet" for name in ("findings", "sentences", "images")}


def write_chexpert(folder: Path, classes: tuple[str, ...]) -> dict[str, Path]:
    """12 test images with one or two findings, 15 training images with one; class c brightens cell c."""
    present = [[n % 5] + ([(n + 2) % 5] if n % 2 else []) for n in range(12)] + [[n % 5] for n in range(15)]
    ids = [f"c{n:02}" for n in range(27)]
    files = write_store(folder, "chexpert", ids, [film(cells) for cells in present])
    rows = [dict.fromkeys(CHEXPERT_LABELS, 0.0) | {classes[c]: 1.0 for c in cells} for cells in present]
    official = ["valid"] * 12 + ["train"] * 15
    index = pd.DataFrame(rows).assign(image_id=ids, group_id=ids, frontal=True, official_split=official)
    files |= {"index": folder / "chexpert.index.parquet", "split": folder / "chexpert.split.parquet"}
    write_parquet(index, files["index"])
    split = index[["image_id", "group_id"]].assign(
        task="classification", split=["test"] * 12 + ["train"] * 15
    )
    write_parquet(split, files["split"])
    return files


class Planted(Objective):
    """Sees which cells are bright and knows the vector of every text; `mirrored` sees the opposite cells."""

    def __init__(self, vectors: dict[tuple[int, ...], np.ndarray], *, mirrored: bool = False):
        super().__init__()
        self.vectors, self.mirrored = vectors, mirrored
        self.device_tag = nn.Parameter(torch.zeros(()))

    def _cells(self, batch: Batch) -> Tensor:
        bright = nn.functional.adaptive_avg_pool2d(batch.images[:, :1], 4)[:, 0]  # (B, 4, 4)
        return bright.flip(1, 2) if self.mirrored else bright

    def embed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        texts = [
            self.vectors[tuple(row[mask].tolist())]
            for row, mask in zip(batch.token_ids, batch.attention_mask, strict=True)
        ]
        images = nn.functional.normalize(self._cells(batch).flatten(1) + 1, dim=1)
        return images, nn.functional.normalize(torch.tensor(np.array(texts)), dim=1)

    def attention_maps(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self._cells(batch)[:, None], torch.ones(len(batch.images), 1, dtype=torch.bool)


def planted_model(
    files: dict[str, Path], vectors: dict[str, np.ndarray] | None = None, *, mirrored: bool = False
) -> Model:
    """A `Model` around `Planted` that knows these sentences, by default those of the reports."""
    vectors = vectors or {sentence(cell): np.eye(CELLS, dtype=np.float32)[cell] for cell in range(CELLS)}
    shape = (SETTINGS[name] for name in ("size", "resize", "max_tokens", "batch_size"))
    model = Model(Planted({}), files["tokens"], files["tokenizer"], *shape)
    texts = model.encode(list(vectors))
    known = {tuple(ids.tolist()): vectors[s] for (ids, _, _), s in zip(texts, vectors, strict=True)}
    assert len(known) == len(vectors)
    return model._replace(objective=Planted(known, mirrored=mirrored))
