"""Image-report pairs as batches. An epoch's order and crops depend on its number only, so a resumed run repeats them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cmcgns.errors import InputError
from cmcgns.images import transforms
from cmcgns.images.augment import augment
from cmcgns.images.store import ImageStore
from cmcgns.objectives.base import Batch, Text, pad_texts
from cmcgns.parquet import read_meta, read_parquet
from cmcgns.randomness import numpy_rng, torch_generator


@dataclass(frozen=True)
class Pairs:
    """The pairs of one split: pixels by row, tokens by study.

    Attributes:
        pixels: (n_store, S, S) uint8, memory-mapped or in memory.
        rows: (n,) row of `pixels` of each pair.
        studies: (n,) number of the study of each pair.
        tokens: per study its token ids, sentence index and word index, int32; None for a method without text.
    """

    pixels: np.ndarray
    rows: np.ndarray
    studies: np.ndarray
    tokens: list[Text] | None
    pad_token_id: int
    size: int

    def __len__(self) -> int:
        return len(self.rows)


def load_pairs(
    *,
    store: Path,
    store_table: Path,
    index: Path,
    split: Path,
    tokens: Path | None,
    size: int,
    resize: str,
    subsets: tuple[str, ...],
) -> dict[str, Pairs]:
    """Join images, studies and tokens for each split in `subsets` ("train", "valid")."""
    images = ImageStore(store, store_table)
    pixels = images.work_array(size, resize)
    study_of = read_parquet(index, columns=["image_id", "study_id"]).set_index("image_id")["study_id"]
    if tokens is None:
        text, names, pad = None, sorted(study_of.unique()), 0
    else:
        words = read_parquet(tokens)
        text = list(zip(words["token_ids"], words["sentence_index"], words["word_index"], strict=True))
        names, pad = words["study_id"], read_meta(tokens)["pad_token_id"]
    number = {study: i for i, study in enumerate(names)}
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
            pad_token_id=pad,
            size=size,
        )
    return result


def epoch_order(pairs: Pairs, *, seed: int, key: tuple, pairing: str) -> np.ndarray:
    """A fresh random order of the pairs; `study_random` takes one image of each study."""
    order = numpy_rng(seed, "order", *key).permutation(len(pairs))
    if pairing == "study_random":
        order = order[np.sort(np.unique(pairs.studies[order], return_index=True)[1])]
    return order


@dataclass(frozen=True)
class Demand:
    """What a method wants of a batch (`Objective.views`, `Objective.text`) and the augmentation recipe."""

    views: int = 1
    text: str = "report"
    augmentation: str = "crop"


def batches(
    pairs: Pairs,
    order: np.ndarray,
    batch_size: int,
    *,
    demand: Demand,
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
        # validation draws sentences and second views too, the same ones each time
        generator = torch_generator(seed, "crop" if train else "valid", *key, i)
        return collate(pairs, order[i * batch_size : (i + 1) * batch_size], generator, demand, train=train)

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(make, first) if first < count else None
        for i in range(first, count):
            batch = ahead.result()
            ahead = pool.submit(make, i + 1) if i + 1 < count else None
            yield batch


def collate(
    pairs: Pairs, chosen: np.ndarray, generator: torch.Generator, demand: Demand, *, train: bool
) -> Batch:
    """The chosen pairs as one batch. One view in validation is the centre crop; all else is drawn from `generator`."""
    pixels = torch.from_numpy(np.ascontiguousarray(pairs.pixels[pairs.rows[chosen]]))
    if train or demand.views == 2:
        views = [augment(pixels, pairs.size, demand.augmentation, generator) for _ in range(demand.views)]
    else:
        views = [transforms.center_crop(pixels, pairs.size)]
    studies = pairs.studies[chosen]
    text = [_select(pairs.tokens, s, demand.text, generator) for s in studies]
    return Batch(
        images=transforms.to_network(views[0]),
        **pad_texts(text, pairs.pad_token_id),
        study=torch.from_numpy(studies.astype(np.int64)),
        second=transforms.to_network(views[1]) if demand.views == 2 else None,
    )


def _select(tokens: list[Text] | None, study: int, text: str, generator: torch.Generator) -> Text:
    """The ids, sentence index and word index of a study's text as the method wants it."""
    if text == "none" or tokens is None:
        return (np.empty(0, np.int32),) * 3
    whole = tokens[study]
    if text == "report":
        return whole
    count = int(whole[1].max(initial=-1)) + 1
    if count == 0:
        return whole
    order = torch.randperm(count, generator=generator).numpy()
    return rearrange(whole, order[:1] if text == "sentence" else order)


def rearrange(tokens: Text, order: np.ndarray) -> Text:
    """A text of the sentences `order`, in that order; sentences and words are numbered anew."""
    ids, sentences, words = tokens
    at = [np.flatnonzero(sentences == number) for number in order]
    body = np.concatenate(at)
    owner = np.repeat(np.arange(len(at)), [len(part) for part in at])
    renewed = np.cumsum(np.diff(words[body], prepend=-2) != 0) - 1

    def framed(left: int, middle: np.ndarray, right: int) -> np.ndarray:
        return np.concatenate([[left], middle, [right]]).astype(np.int32)

    return framed(ids[0], ids[body], ids[-1]), framed(-1, owner, -1), framed(-1, renewed, -1)
