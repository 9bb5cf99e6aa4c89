"""Mean ranks of the methods over the cells, Friedman's and Nemenyi's tests, as tables and a plot.

The recipe is that of Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7 (2006), 3.2.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.special import chdtrc
from scipy.stats import rankdata, studentized_range

from cmcgns.errors import InputError
from cmcgns.files import atomic, csv_text, markdown_text, write_text
from cmcgns.reporting.runs import Group
from cmcgns.reporting.tables import arm_title, read_runs, summary

ALPHA = 0.05
STYLE = {"svg.hashsalt": "cmcgns", "font.size": 8}  # the same picture, the same bytes
NOTE = (
    "Rank 1 is the highest mean over seeds in a cell (data set and share of labels); equal values share a rank. "
    "Friedman's test asks whether the methods differ at all; if so, two of them do where their mean ranks are the "
    "critical difference (Nemenyi, 5 %) or more apart. Both take the cells for independent, but those of one data set "
    "share its films: over data sets, a data set's cells of one task count once, by their mean rank."
)


class Ranking(NamedTuple):
    """The methods' mean ranks over blocks that all of them have.

    Attributes:
        over: what a block is.
        mean_ranks: title -> mean rank, best first.
        chi2, p: Friedman's statistic and its p-value.
        critical_difference: of two mean ranks.
    """

    over: str
    blocks: int
    mean_ranks: dict[str, float]
    chi2: float
    p: float
    critical_difference: float


def write_ranks(
    *, cells: Sequence[Group], seeds: list[int], metrics: list[Path], csv: Path, md: Path, svg: Path
) -> None:
    """Write the table twice, and the critical-difference plot `svg`.

    Args:
        cells: the (arm, pair, fraction) that were run. Those count in which every arm has a value.
        metrics: cells x seeds, the `metrics.json` of the runs; a cell's value is the mean over the seeds.

    Raises:
        InputError: the metric is undefined too often to rank two methods.
    """
    scores: dict[tuple[str, int], dict[str, float]] = {}
    for (arm, pair, fraction), runs in read_runs(cells, seeds, metrics).items():
        mean = summary(run["primary"] for run in runs)[1]
        if mean is not None:
            scores.setdefault((pair, fraction), {})[arm] = mean
    arms = list(dict.fromkeys(arm for cell in scores.values() for arm in cell))
    shared = [key for key, cell in scores.items() if len(cell) == len(arms)]
    if len(arms) < 2 or not shared:
        raise InputError(
            "there is no cell in which two methods can be ranked", remedy="run `cmcgns reproduce`"
        )
    ranks = rank(np.array([[scores[key][arm] for arm in arms] for key in shared]))
    pairs = [pair for pair, _ in shared]
    means = np.array([ranks[[p == pair for p in pairs]].mean(0) for pair in dict.fromkeys(pairs)])
    titles = [arm_title(arm) for arm in arms]
    found = [ranking("cells", titles, ranks), ranking("data sets", titles, rank(-means))]
    write_text(csv, to_csv(found))
    write_text(md, to_markdown(found))
    with rc_context(STYLE), atomic(svg) as temporary:
        draw(found[0]).savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


def rank(scores: np.ndarray) -> np.ndarray:
    """(blocks, methods) -> in each block 1 for the highest score; equal scores, up to rounding, share their mean rank."""
    return rankdata(-scores.round(9), axis=1)


def ranking(over: str, titles: list[str], ranks: np.ndarray) -> Ranking:
    """Mean ranks and tests of ranks (blocks, methods)."""
    means = ranks.mean(0)
    order = np.argsort(means, kind="stable")
    chi2, p = friedman(ranks)
    mean_ranks = {titles[i]: float(means[i]) for i in order}
    return Ranking(over, len(ranks), mean_ranks, chi2, p, critical_difference(ranks.shape[1], len(ranks)))


def friedman(ranks: np.ndarray) -> tuple[float, float]:
    """Friedman's chi-squared of ranks (blocks, methods), corrected for ties, and its p-value.

    Conover, "Practical nonparametric statistics" (1999), 5.8. Of the chi-squared and the F form, this one errs to the
    safe side when there are few blocks: F calls two blocks that agree certain.
    """
    blocks, methods = ranks.shape
    centred = ranks - (methods + 1) / 2
    spread = (centred**2).sum()
    chi2 = float((methods - 1) * (centred.sum(0) ** 2).sum() / spread) if spread else 0.0
    return chi2, float(chdtrc(methods - 1, chi2))


def critical_difference(methods: int, blocks: int, alpha: float = ALPHA) -> float:
    """Nemenyi's critical difference of two mean ranks (Demsar 2006, 3.2.2)."""
    quantile = studentized_range.ppf(1 - alpha, methods, math.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(methods * (methods + 1) / (6 * blocks)))


def cliques(means: list[float], critical: float) -> list[tuple[int, int]]:
    """First and last of each longest run of sorted mean ranks that lie less than the critical difference apart."""
    found: list[tuple[int, int]] = []
    for first, low in enumerate(means):
        last = max(i for i, high in enumerate(means) if high - low < critical)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def to_csv(found: list[Ranking]) -> str:
    """A line for each method in each ranking, best first."""
    rows = [["over", "blocks", "method", "mean_rank", "friedman_chi2", "friedman_p", "critical_difference"]]
    for r in found:
        tests = (f"{r.chi2:.2f}", f"{r.p:.3g}", f"{r.critical_difference:.2f}")
        rows += [[r.over, r.blocks, title, f"{mean:.2f}", *tests] for title, mean in r.mean_ranks.items()]
    return csv_text(rows)


def to_markdown(found: list[Ranking]) -> str:
    """A row a method with its mean ranks, then a row a test."""
    header = ["Method", *(f"Mean rank over {r.blocks} {r.over}" for r in found)]
    rows = [[title, *(f"{r.mean_ranks[title]:.2f}" for r in found)] for title in found[0].mean_ranks]
    rows.append(["Friedman's chi-squared", *(f"{r.chi2:.2f} (p = {r.p:.3g})" for r in found)])
    rows.append(["Critical difference", *(f"{r.critical_difference:.2f}" for r in found)])
    return f"{NOTE}\n\n{markdown_text([header, *rows])}"


def draw(ranking: Ranking) -> Figure:
    """The critical-difference plot (Demsar 2006, figure 1): a bar joins methods that are not told apart."""
    titles, means = list(ranking.mean_ranks), list(ranking.mean_ranks.values())
    count, critical = len(titles), ranking.critical_difference
    bars = cliques(means, critical)
    top = 0.5 * len(bars) + 1  # height of the first name, downwards
    left = (count + 1) // 2  # this many names on the left
    high = max(count, 1 + critical)
    with rc_context(STYLE):
        figure = Figure(figsize=(6, 1 + 0.25 * (top + left)), layout="constrained")
        axes = figure.subplots()
        for i, (title, mean) in enumerate(zip(titles, means, strict=True)):
            side, row = (1, i) if i < left else (high, count - 1 - i)
            axes.plot([mean, mean, side], [0, top + row, top + row], color="black", linewidth=0.7)
            text = f"{title}  {mean:.2f} " if side == 1 else f" {mean:.2f}  {title}"
            axes.text(side, top + row, text, ha="right" if side == 1 else "left", va="center")
        for level, (first, last) in enumerate(bars):
            y = 0.5 * (level + 1)
            axes.plot([means[first] - 0.03, means[last] + 0.03], [y, y], color="#0072B2", linewidth=3)
        axes.plot([1, 1 + critical], [-1.5, -1.5], color="black", marker="|")
        axes.text(1 + critical / 2, -1.7, f"critical difference {critical:.2f}", ha="center", va="bottom")
        axes.set(xlim=(1, high), ylim=(top + left, -2.2), yticks=[], xticks=range(1, count + 1))
        axes.set_title(f"Mean rank over {ranking.blocks} {ranking.over}; Friedman p = {ranking.p:.3g}")
        axes.spines[["left", "right", "bottom"]].set_visible(False)
        axes.spines["top"].set_position(("data", 0))
        axes.xaxis.set_ticks_position("top")
        axes.tick_params(direction="in")
    return figure
