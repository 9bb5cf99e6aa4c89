"""The step `align`: what a pre-trained image-text model knows without any head.

Retrieval and grounding read MIMIC-CXR, zero-shot classification CheXpert. A pre-training has one seed, so a seed here
draws the evaluation sample instead: a gallery of pairs, or patients with replacement. The spread over seeds is that of
the sample, not of pre-training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from cmcgns.errors import InputError
from cmcgns.evaluation.cell import prepare
from cmcgns.evaluation.grounding import (
    box_mask,
    centre_map,
    exchange,
    field_of_view,
    grounding_scores,
    to_store,
)
from cmcgns.evaluation.metrics import class_auroc, macro_auroc, weighted_mean
from cmcgns.evaluation.phrases import load_phrases
from cmcgns.evaluation.retrieval import chance_scores, retrieval_scores
from cmcgns.evaluation.targets import targets
from cmcgns.evaluation.zero_shot import class_scores, five_classes, prompts
from cmcgns.files import write_json
from cmcgns.images import transforms
from cmcgns.images.store import ImageStore
from cmcgns.objectives.base import Batch, Objective, Text, pad_texts
from cmcgns.objectives.build import build_objective, load_weights
from cmcgns.parquet import read_meta, read_parquet
from cmcgns.randomness import numpy_rng
from cmcgns.reports.tokens import encode, load_tokenizer
from cmcgns.sources.vocabulary import COMPETITION

Scores = dict[str, float | None]
SIDE_NAMED = "a side is named"
OTHER_FILMS = 4  # whose mean is what a sentence looks for on any film
NO_BOXES = "no sentence with a box about these images: there is no truth of a synthetic world and no MS-CXR"


class Result(NamedTuple):
    """What one kind of evaluation found.

    Attributes:
        n: how much was evaluated, by name.
        chance: the scores of guessing, by the way of guessing.
        seeds: the scores under each seed, fractions; None where a score is not defined.
        reason: why there is no score, if there is none.
    """

    n: dict[str, int]
    chance: dict[str, Scores]
    seeds: dict[int, Scores]
    reason: str = ""


def align(
    *,
    kind: str,
    arm: str,
    objective: str,
    weights: Path,
    settings: dict[str, Any],
    seeds: list[int],
    metrics: Path,
    progress: Callable[[int, int], None] | None = None,
    **files: Path,
) -> dict[str, Any]:
    """Evaluate the weights of a pre-training and write its metrics.

    Args:
        kind: a key of `KINDS`.
        arm: the name to show; `objective` is its class (`build_objective`).
        weights: of the last phase.
        settings: `encoders, objective, seed` as the pre-training had them, `size, resize, max_tokens, batch_size,
            threads`; for `retrieval` `gallery`, for `zero_shot` `split_seed`.
        progress: is told (done, total) pairs; grounding has several passes over all of them.
        files: `store, store_table, index, split` of MIMIC-CXR (`zero_shot`: of CheXpert), `tokens, tokenizer,
            tokenizer_config`; for `grounding` the tables `findings, sentences, images` of a synthetic world's truth, or
            `raw`, the folder of downloads that may hold MS-CXR.

    Raises:
        InputError: the method has no text, or the weights are of another model.
    """
    prepare(settings)
    model = Model.load(objective, weights, files, settings, progress)
    result = KINDS[kind](model, files, settings, seeds)
    document = {"kind": kind, "arm": arm} | result._asdict()
    write_json(metrics, document)
    return {"n": result.n, "reason": result.reason}


class Model(NamedTuple):
    """A pre-trained objective in eval mode and what its inputs look like; `tick` is told how many pairs have passed through it."""

    objective: Objective
    tokens: Path
    tokenizer: Path | None
    size: int
    resize: str
    max_tokens: int
    batch_size: int
    tick: Callable[[int, int], None] | None = None

    @classmethod
    def load(
        cls,
        kind: str,
        weights: Path,
        files: dict[str, Path],
        settings: dict[str, Any],
        tick: Callable[[int, int], None] | None = None,
    ) -> Model:
        """Build the objective and load all of its weights."""
        encoders = settings["encoders"]
        objective = build_objective(
            kind,
            encoders | {"image": encoders["image"] | {"weights": "random"}},  # the next line fills it
            settings["objective"],
            seed=settings["seed"],
            vocab_size=read_meta(files["tokens"])["vocab_size"],
            size=settings["size"],
        )
        if objective.text == "none":
            raise InputError(f"{kind} has no text encoder", expected="a method that reads reports")
        load_weights(objective, weights)
        objective.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        chosen = (settings[k] for k in ("size", "resize", "max_tokens", "batch_size"))
        return cls(objective, files["tokens"], files.get("tokenizer"), *chosen, tick)

    def encode(self, sentences: Sequence[str]) -> list[Text]:
        """Each sentence as a text of its own."""
        tokenizer = load_tokenizer(str(self.tokenizer.parent))
        return list(zip(*encode([[s] for s in sentences], tokenizer, self.max_tokens), strict=True))

    def batches(self, pixels: np.ndarray, texts: list[Text]) -> Iterator[Batch]:
        """Squares of `ImageStore.work_array` (n, side, side) and n texts as batches of centre crops."""
        pad = read_meta(self.tokens)["pad_token_id"]
        device = next(self.objective.parameters()).device
        for start in range(0, len(texts), self.batch_size):
            part = slice(start, start + self.batch_size)
            crops = transforms.center_crop(torch.from_numpy(np.ascontiguousarray(pixels[part])), self.size)
            batch = Batch(
                images=transforms.to_network(crops),
                **pad_texts(texts[part], pad),
                study=torch.arange(len(crops)),
            )
            given = {field.name: getattr(batch, field.name) for field in fields(Batch)}
            yield Batch(**{name: None if x is None else x.to(device) for name, x in given.items()})
            if self.tick is not None:
                self.tick(min(part.stop, len(texts)), len(texts))

    @torch.no_grad()
    def embed(self, pixels: np.ndarray, texts: list[Text]) -> tuple[np.ndarray, np.ndarray]:
        """(n, D) images and (m, D) texts, of unit length; the two need not belong together."""
        # batches hold pairs: the shorter list starts again from its beginning
        both = np.arange(max(len(pixels), len(texts)))
        paired = self.batches(pixels[both % len(pixels)], [texts[i] for i in both % len(texts)])
        u, v = zip(*(self.objective.embed(batch) for batch in paired), strict=True)
        images, sentences = _finite(u), _finite(v)
        return images[: len(pixels)], sentences[: len(texts)]

    @torch.no_grad()
    def maps(self, pixels: np.ndarray, texts: list[Text]) -> np.ndarray:
        """(n, h, w), where each text of one sentence looks in its image."""
        parts = [self.objective.attention_maps(batch)[0][:, 0] for batch in self.batches(pixels, texts)]
        return _finite(parts)


def _finite(parts: Sequence[torch.Tensor]) -> np.ndarray:
    """The rows of all batches; a number that is none would win or lose every comparison in silence."""
    whole = torch.cat(list(parts)).float().cpu().numpy()
    if not np.isfinite(whole).all():
        raise InputError(
            "the model's output is not finite", remedy="pre-train again with a lower learning rate"
        )
    return whole


def retrieval(model: Model, files: dict[str, Path], settings: dict[str, Any], seeds: list[int]) -> Result:
    """Images and reports of the test split, or of the validation split where there is no other.

    A seed draws a gallery of `settings["gallery"]` pairs, at most half of them, so that galleries differ.
    """
    images = split_images(files, ("test",)) if _has_test(files) else split_images(files, ("valid",))
    words = read_parquet(model.tokens).set_index("study_id").loc[images["study_id"]]
    texts = list(zip(words["token_ids"], words["sentence_index"], words["word_index"], strict=True))
    u, v = model.embed(squares(files, model, images["image_id"]), texts)
    gallery, study = min(settings["gallery"], max(1, len(images) // 2)), images["study_id"].to_numpy()
    found, chance = {}, []
    for seed in seeds:
        drawn = numpy_rng(seed, "gallery").choice(len(images), gallery, replace=False)
        found[seed] = retrieval_scores(u[drawn], v[drawn], study[drawn])
        chance.append(chance_scores(study[drawn]))
    means = pd.DataFrame(chance).mean().to_dict()
    return Result({"pairs": len(images), "pairs in a gallery": gallery}, {"random order": means}, found)


def zero_shot(model: Model, files: dict[str, Path], settings: dict[str, Any], seeds: list[int]) -> Result:
    """AUROC of the competition's classes on CheXpert's test split, and five-way accuracy on 5x200.

    A seed draws patients with replacement. 5x200 is drawn from the training labels, which no image-text method sees.
    """
    stored = read_parquet(files["store_table"], columns=["image_id", "row"])
    index = read_parquet(files["index"])
    index = index[index["image_id"].isin(stored.loc[stored["row"] >= 0, "image_id"])]
    five = five_classes(index, settings["split_seed"])
    test = split_images(files, ("test",))
    sentences, share = prompts()
    both = pd.concat([test["image_id"], five["image_id"]])
    scores = class_scores(*model.embed(squares(files, model, both), model.encode(sentences)), share)
    truth = targets("chexpert", test)[2]
    right = scores[len(test) :].argmax(1) == five["target"].to_numpy()
    of_test = resample(test["group_id"], seeds)
    auroc = {
        name: class_auroc(scores[: len(test), c], truth[:, c], of_test) for c, name in enumerate(COMPETITION)
    }
    metrics = {f"AUC {name}": values for name, values in auroc.items()}
    metrics["AUC mean"] = macro_auroc(scores[: len(test)], truth, of_test)
    if len(five):
        metrics["ACC 5x200"] = weighted_mean(right, resample(five["group_id"], seeds))
    chance = {name: 1 / len(COMPETITION) if name.startswith("ACC") else 0.5 for name in metrics}
    n = {"test images": len(test), "images a class of 5x200": len(five) // len(COMPETITION)}
    return Result(n, {"guessing": chance}, _by_seed(metrics, seeds))


def grounding(model: Model, files: dict[str, Path], settings: dict[str, Any], seeds: list[int]) -> Result:
    """Pointing game and mean IoU of the attention map of a finding's sentence, given alone, as MS-CXR does.

    The synthetic world: images of the test and validation splits. MS-CXR: all its images, of which pre-training may have
    seen the reports but never a box; `n` says how many it saw. A seed draws patients with replacement and exchanges the
    maps between images for the control.

    A map holds what the sentence looks for on any film, too, the borders of the field among it. So `relative` is the map less
    the mean map of the same sentence on other films: what this film adds. Its control is the same with one of the others.
    Pointing, and the same sentence's on another film, are told for each finding, too, and for the sentences that name a side.
    """
    phrases, masks = select_phrases(files, model)
    if phrases.empty:
        return Result({}, {}, {}, NO_BOXES)
    maps = model.maps(squares(files, model, phrases["image_id"]), model.encode(phrases["phrase"]))
    drawn = resample(phrases["group_id"], seeds)
    metrics = {k: weighted_mean(x, drawn) for k, x in grounding_scores(maps, masks).items()}
    for row, seed in enumerate(seeds):
        other = exchange(phrases["image_id"].to_numpy(), numpy_rng(seed, "exchange"))
        if other is not None:
            for name, values in grounding_scores(maps[other], masks).items():
                control = metrics.setdefault(f"{name} (exchanged maps)", np.full(len(seeds), np.nan))
                control[row] = weighted_mean(values, drawn[[row]])[0]
    pointing = {"": grounding_scores(maps, masks)["pointing"]}
    for name, values in _relative(model, files, phrases, maps, masks).items():
        metrics[name] = weighted_mean(values, drawn)
        if name == "pointing (other film)":
            pointing[" (other film)"] = values
    labels = phrases["label"].to_numpy(str)
    groups = {label: labels == label for label in np.unique(labels)}
    groups[SIDE_NAMED] = phrases["phrase"].str.contains(r"\b(?:right|left)\b").to_numpy(bool)
    groups = {group: members for group, members in groups.items() if members.any()}
    for group, members in groups.items():
        for name, values in pointing.items():
            metrics[f"pointing: {group}{name}"] = weighted_mean(values, drawn * members)
    area = float(masks.mean())  # what a pixel drawn at random hits, and the IoU of the whole image
    middle = grounding_scores(np.broadcast_to(centre_map(), (len(masks), 8, 8)), masks)
    chance = {
        "uniform": {"pointing": area, "mIoU": area}
        | {f"pointing: {group}": float(masks[members].mean()) for group, members in groups.items()},
        "centre": {name: float(values.mean()) for name, values in middle.items()},
    }
    n = {"phrases": len(phrases), "images": phrases["image_id"].nunique()}
    n |= {"phrases about training images": int((phrases["split"] == "train").sum())}
    return Result(n, chance, _by_seed(metrics, seeds))


def _relative(
    model: Model, files: dict[str, Path], phrases: pd.DataFrame, maps: np.ndarray, masks: np.ndarray
) -> dict[str, np.ndarray]:
    """Per phrase the scores of the same sentence on another film, of the relative map, and of the relative map of that film."""
    sentences = model.encode(phrases["phrase"])
    elsewhere = []
    for draw in range(OTHER_FILMS + 1):
        other = exchange(phrases["image_id"].to_numpy(), numpy_rng(draw, "other films"))
        if other is None:
            return {}
        elsewhere.append(model.maps(squares(files, model, phrases["image_id"].iloc[other]), sentences))
    wrong, usual = elsewhere[0], np.mean(elsewhere[1:], axis=0)
    named = {"other film": wrong, "relative": maps - usual, "relative, other film": wrong - usual}
    return {
        f"{name} ({which})": values
        for which, changed in named.items()
        for name, values in grounding_scores(changed, masks).items()
    }


KINDS: dict[str, Callable[[Model, dict[str, Path], dict[str, Any], list[int]], Result]] = {
    "retrieval": retrieval,
    "zero_shot": zero_shot,
    "grounding": grounding,
}


def select_phrases(files: dict[str, Path], model: Model) -> tuple[pd.DataFrame, np.ndarray]:
    """The phrases whose boxes the network's centre crop shows, with `group_id` and `split`, and their masks (n, S, S).

    Of the synthetic world only held-out images; of MS-CXR all. No row where nobody has drawn boxes.
    """
    phrases = load_phrases(files)
    parts = ("test", "valid") if "sentences" in files else ("test", "valid", "train")
    images = split_images(files, parts)[["image_id", "group_id", "split"]]
    phrases = phrases.merge(images, on="image_id").reset_index(drop=True)
    store = ImageStore(files["store"], files["store_table"])
    places = store.placement(store.rows(phrases["image_id"])).itertuples(index=False)
    masks = np.zeros((len(phrases), model.size, model.size), bool)
    for i, (boxes, place) in enumerate(zip(phrases["boxes"], places, strict=True)):
        field = field_of_view(place, store.size, model.size, model.resize)
        masks[i] = box_mask(to_store(boxes, place), field, model.size)
    seen = masks.any((1, 2))
    return phrases[seen].reset_index(drop=True), masks[seen]


def resample(groups: pd.Series, seeds: list[int]) -> np.ndarray:
    """(seeds, n) how often each row counts when its group (patient) is drawn with replacement."""
    names, member = np.unique(groups.to_numpy(str), return_inverse=True)
    shares = np.full(len(names), 1 / len(names))
    drawn = [numpy_rng(seed, "patients").multinomial(len(names), shares) for seed in seeds]
    return np.array(drawn, float)[:, member]


def _by_seed(metrics: dict[str, np.ndarray], seeds: list[int]) -> dict[int, Scores]:
    """One array a metric -> one table of metrics a seed; what is not defined is None."""
    table = {name: [None if np.isnan(x) else float(x) for x in values] for name, values in metrics.items()}
    return {seed: {name: values[row] for name, values in table.items()} for row, seed in enumerate(seeds)}


def _has_test(files: dict[str, Path]) -> bool:
    return bool((read_parquet(files["split"], columns=["split"])["split"] == "test").any())


def split_images(files: dict[str, Path], parts: Sequence[str]) -> pd.DataFrame:
    """The index's rows of the images of these splits, with `split`, sorted by id."""
    split = read_parquet(files["split"], columns=["image_id", "split"])
    chosen = split[split["split"].isin(parts)]
    return chosen.merge(read_parquet(files["index"]), on="image_id").sort_values(
        "image_id", ignore_index=True
    )


def squares(files: dict[str, Path], model: Model, image_ids: pd.Series) -> np.ndarray:
    """(n, side, side) uint8, what the centre crops are cut from."""
    store = ImageStore(files["store"], files["store_table"])
    return store.work_array(model.size, model.resize, store.rows(image_ids))
