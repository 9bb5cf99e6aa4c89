"""Image-report pairs as batches. An epoch's order and crops depend on its number only, so a resumed run repeats them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cmcgns.errors import InputError
from cmcgns.files import read_meta, read_parquet
from cmcgns.images import transforms
from cmcgns.images.store import ImageStore
from cmcgns.objectives.base import Batch
from cmcgns.randomness import numpy_rng, torch_generator


@dataclass(frozen=True)
class Pairs:
    """The pairs of one split: pixels by row, tokens by study.

    Attributes:
        pixels: (n_store, S, S) uint8, memory-mapped or in memory.
        rows: (n,) row of `pixels` of each pair.
        studies: (n,) number of the study of each pair.
        tokens: per study its token ids and sentence index, int32.
    """

    pixels: np.ndarray
    rows: np.ndarray
    studies: np.ndarray
    tokens: list[tuple[np.ndarray, np.ndarray]]
    pad_token_id: int
    size: int
    crop: bool

    def __len__(self) -> int:
        return len(self.rows)


def load_pairs(
    *,
    store: Path,
    store_table: Path,
    index: Path,
    split: Path,
    tokens: Path,
    size: int,
    resize: str,
    subsets: tuple[str, ...],
) -> dict[str, Pairs]:
    """Join images, studies and tokens for each split in `subsets` ("train", "valid")."""
    images = ImageStore(store, store_table)
    pixels = images.work_array(size, resize)
    words = read_parquet(tokens)
    text = list(zip(words["token_ids"], words["sentence_index"], strict=True))
    number = {study: i for i, study in enumerate(words["study_id"])}
    study_of = read_parquet(index, columns=["image_id", "study_id"]).set_index("image_id")["study_id"]
    table = read_parquet(split)
    result = {}
    for name in subsets:
        ids = table.loc[table["split"] == name, "image_id"]
        if len(ids) < 2:
            raise InputError(
                f"only {len(ids)} image-report pair(s) in split {name!r}", file=split, expected="2 or more"
            )
        result[name] = Pairs(
            pixels=pixels,
            rows=images.rows(ids),
            studies=study_of.loc[ids].map(number).to_numpy(),
            tokens=text,
            pad_token_id=read_meta(tokens)["pad_token_id"],
            size=size,
            crop=resize == "pad256_crop224",
        )
    return result


def epoch_order(pairs: Pairs, *, seed: int, key: tuple, pairing: str) -> np.ndarray:
    """A fresh random order of the pairs; `study_random` takes one image of each study."""
    order = numpy_rng(seed, "order", *key).permutation(len(pairs))
    if pairing == "study_random":
        order = order[np.sort(np.unique(pairs.studies[order], return_index=True)[1])]
    return order


def batches(
    pairs: Pairs,
    order: np.ndarray,
    batch_size: int,
    *,
    first: int = 0,
    seed: int = 0,
    key: tuple = (),
    train: bool,
) -> Iterator[Batch]:
    """Batches of an epoch from batch number `first` on; one is prepared while the last is used.

    A last batch that is too small is left out, unless it is the only one.
    """
    count = max(1, len(order) // batch_size)

    def make(i: int) -> Batch:
        generator = torch_generator(seed, "crop", *key, i) if train else None
        return collate(pairs, order[i * batch_size : (i + 1) * batch_size], generator)

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(make, first) if first < count else None
        for i in range(first, count):
            batch = ahead.result()
            ahead = pool.submit(make, i + 1) if i + 1 < count else None
            yield batch


def collate(pairs: Pairs, chosen: np.ndarray, generator: torch.Generator | None) -> Batch:
    """The chosen pairs as one batch; random crops with a generator, centre crops without."""
    pixels = torch.from_numpy(np.ascontiguousarray(pairs.pixels[pairs.rows[chosen]]))
    if pairs.crop and generator is not None:
        pixels = transforms.random_crop(pixels, pairs.size, generator)
    elif pairs.crop:
        pixels = transforms.center_crop(pixels, pairs.size)
    studies = pairs.studies[chosen]
    text = [pairs.tokens[s] for s in studies]
    ids = _pad([t[0] for t in text], pairs.pad_token_id)
    return Batch(
        images=transforms.to_network(pixels),
        token_ids=ids,
        attention_mask=_pad([np.ones(len(t[0]), bool) for t in text], False),
        sentence_index=_pad([t[1] for t in text], -1),
        study=torch.from_numpy(studies.astype(np.int64)),
    )


def _pad(rows: list[np.ndarray], value: int | bool) -> Tensor:
    longest = max(map(len, rows))
    dtype = bool if isinstance(value, bool) else np.int64
    out = np.full((len(rows), longest), value, dtype)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return torch.from_numpy(out)
