"""How labels lie in the splits: class balance (A5) and the baselines that a number must beat (A10)."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from cmcgns.audit.checks import PARTS, PUBLISHED_TEST
from cmcgns.audit.findings import Fact, Finding
from cmcgns.sources.vocabulary import competition_labels

BEYOND_CHANCE = 5.0  # standard errors


def targets(source: str, index: pd.DataFrame) -> pd.DataFrame:
    """(n, classes) bool, indexed by image id: the classes of a source; none for mimic_cxr."""
    if source == "chexpert":
        columns = dict(competition_labels(index))
    elif source == "covidx":
        columns = {name: index["label"] == name for name in sorted(set(index["label"]))}
    else:
        positive = {
            "rsna": ("pneumonia", lambda: index["target"] == 1),
            "siim": ("pneumothorax", lambda: index["positive"]),
            "object_cxr": ("foreign object", lambda: index["boxes"].map(len) > 0),
        }
        columns = {name: make() for key, (name, make) in positive.items() if key == source}
    return pd.DataFrame(columns, index=index.index).set_axis(index["image_id"])


def attributes(index: pd.DataFrame) -> dict[str, pd.Series]:
    """View and origin by image id, as far as they differ between images."""
    named = {name: index.set_index("image_id")[name] for name in ("view", "origin") if name in index}
    return {name: values for name, values in named.items() if values.nunique() > 1}


def class_balance(
    split: pd.DataFrame, index: pd.DataFrame, *, source: str, scheme: str
) -> tuple[list[Finding], list[Fact]]:
    """A5: share of each class, view and origin in every split against the training part.

    A part that the scheme draws must agree with train but for chance: two proportions, 5 standard errors, the number of
    images taken as the effective one of their groups. The publisher's own test part is told as a fact: nobody can
    draw it anew.
    """
    table = targets(source, index)
    for name, values in attributes(index).items():
        table = pd.concat([table, pd.get_dummies(values, prefix=name, prefix_sep=" ")], axis=1)
    findings, facts = [], []
    for task, rows in split.groupby("task", sort=False):
        of = {part: rows[rows["split"] == part] for part in PARTS}
        rates = {part: table.loc[r["image_id"]].mean() for part, r in of.items() if len(r) and table.shape[1]}
        if "train" not in rates:
            continue
        values = {
            part: {name: round(float(x), 4) for name, x in rate.items()} for part, rate in rates.items()
        }
        facts.append(Fact("A5-class-balance", source, scheme, "shares of classes, views and origins",
                          str(task), values))  # fmt: skip
        for part in ("valid", "test"):
            if part not in rates or (part == "test" and source in PUBLISHED_TEST):
                continue
            groups = {p: of[p]["group_id"] for p in ("train", part)}
            findings += imbalances(rates, groups, source=source, scheme=scheme, task=str(task))
    return findings, facts


def imbalances(
    rates: Mapping[str, Mapping[str, float]], groups: Mapping[str, pd.Series], **about: str
) -> list[Finding]:
    """A5: classes whose share in one split differs from that in another by more than chance.

    Args:
        rates: split -> class -> share.
        groups: the two splits, each with the group of each of its images.
    """
    first, part = groups
    sizes, n = [effective_size(members) for members in groups.values()], len(groups[part])
    findings = []
    for name, b in rates[part].items():
        a = rates[first][name]
        z = two_proportions(a, sizes[0], b, sizes[1])
        if abs(z) > BEYOND_CHANCE:
            detail = f"{name}: {a:.1%} of {first}, {b:.1%} of {part}, z = {z:.1f}"
            findings.append(
                Finding("A5-class-balance", severity="warning", split_a=first, split_b=part, count=round(abs(b - a) * n),
                        total=n, ids=(), remedy="stratify the draw", detail=detail, **about)
            )  # fmt: skip
    return findings


def two_proportions(a: float, n_a: float, b: float, n_b: float) -> float:
    """z of the difference b - a of two shares, pooled; 0 where both are all or nothing."""
    pooled = (a * n_a + b * n_b) / (n_a + n_b)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
    return float((b - a) / error) if error > 0 else 0.0


def trivial_baselines(split: pd.DataFrame, index: pd.DataFrame, *, source: str, scheme: str) -> list[Fact]:
    """A10: what needs no image: prevalence, the majority class, the view or origin alone, an empty mask.

    Rates come from train, numbers (percent) from test.
    """
    table = targets(source, index)
    known = attributes(index)
    facts = []
    for task, rows in split.groupby("task", sort=False):
        train, test = (rows.loc[rows["split"] == part, "image_id"] for part in ("train", "test"))
        if table.shape[1] == 0 or not len(train) or not len(test):
            continue
        y, truth = table.loc[train], table.loc[test]
        values = dict(_baselines(str(task), y, truth, {k: (v[train], v[test]) for k, v in known.items()}))
        text = "a number must beat these: " + ", ".join(f"{name} {x:.2f}" for name, x in values.items())
        facts.append(Fact("A10-trivial-baseline", source, scheme, text, str(task), values))
    return facts


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve in [0, 1] from ranks, ties halved; NaN without both classes."""
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    return float((pd.Series(score).rank().to_numpy()[positive].sum() - n * (n + 1) / 2) / (n * m))


def _baselines(
    task: str, y: pd.DataFrame, truth: pd.DataFrame, known: dict[str, tuple[pd.Series, pd.Series]]
) -> Iterator[tuple[str, float]]:
    """(name, percent): `y` of train, `truth` of test."""
    exclusive = y.shape[1] > 1 and bool((truth.sum(axis=1) == 1).all())
    for name in truth:
        yield f"prevalence {name}", 100 * float(truth[name].mean())
    if exclusive:
        yield "accuracy of the majority class", 100 * float(truth[y.mean().idxmax()].mean())
    if task == "segmentation":
        yield "Dice of empty masks", 100 * float(1 - truth.iloc[:, 0].mean())
    for kind, (here, there) in known.items():
        rates = y.groupby(here.to_numpy()).mean()
        scores = rates.reindex(there.to_numpy()).fillna(y.mean())
        if exclusive:
            chosen = scores.to_numpy().argmax(axis=1)
            yield (
                f"accuracy by {kind} alone",
                100 * float(truth.to_numpy()[np.arange(len(truth)), chosen].mean()),
            )
        else:
            areas = [auroc(scores[name].to_numpy(), truth[name].to_numpy(bool)) for name in truth]
            if not np.isnan(areas).all():
                yield f"AUROC by {kind} alone", 100 * float(np.nanmean(areas))


def effective_size(groups: pd.Series) -> float:
    """How many independent images so many images of these groups are worth at least."""
    sizes = groups.value_counts().to_numpy(float)
    return float(sizes.sum() ** 2 / (sizes**2).sum())
