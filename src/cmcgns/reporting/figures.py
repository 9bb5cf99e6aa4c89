"""The paper's Figures 4 and 5: where a sentence looks in a radiograph, and the encoder's features in the plane.

Report text and credentialed images appear in the first: the caller says where it may be written.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cmcgns.evaluation.alignment import Model, select_phrases, split_images, squares
from cmcgns.evaluation.cell import prepare
from cmcgns.evaluation.grounding import field_of_view, to_store, upsample
from cmcgns.evaluation.phrases import choose, said_phrases
from cmcgns.evaluation.separation import separation
from cmcgns.evaluation.zero_shot import five_classes
from cmcgns.files import atomic, write_json
from cmcgns.images.store import ImageStore
from cmcgns.parquet import read_parquet
from cmcgns.sources.vocabulary import COMPETITION

# Okabe and Ito's colours, which colour-blind readers tell apart, and a marker each for print without colour.
STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"))
STYLE = {"svg.hashsalt": "cmcgns", "pdf.fonttype": 42, "font.size": 8}
METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None}}
COLUMNS = 3


def attention_figure(
    *,
    objective: str,
    title: str,
    weights: Path,
    settings: dict[str, Any],
    png: Path,
    pdf: Path,
    **files: Path,
) -> dict[str, int]:
    """Draw the attention of chosen sentences over their radiographs.

    The choice follows from the data and `settings["split_seed"]`, so it is the same for every method: one sentence a
    finding and image, with the true boxes where they are known, else sentences of the reports.

    Args:
        objective: the class of the objective (`objectives.build.build_objective`).
        files, settings: as `alignment.align` takes them for `grounding`, and `reports`, the table of reports, for data
            without boxes; `settings["panels"]`, how many.

    Returns:
        How many sentences were drawn.
    """
    prepare(settings)
    model = Model.load(objective, weights, files, settings)
    phrases, _ = select_phrases(files, model)
    if phrases.empty and "reports" in files:
        held_out = split_images(files, ("test", "valid"))
        phrases = said_phrases(files["reports"], held_out)
    chosen = choose(phrases, settings["panels"], settings["split_seed"]).reset_index(drop=True)
    store = ImageStore(files["store"], files["store_table"])
    rows = store.rows(chosen["image_id"])
    places = list(store.placement(rows).itertuples(index=False))
    maps = np.empty((0, 1, 1))
    if len(chosen):
        maps = model.maps(squares(files, model, chosen["image_id"]), model.encode(chosen["phrase"]))
    figure = draw_attention(
        store.pixels[rows],
        maps,
        [field_of_view(place, store.size, model.size, model.resize) for place in places],
        [to_store(boxes, place) for boxes, place in zip(chosen["boxes"], places, strict=True)],
        list(chosen["phrase"]),
        title,
    )
    save(figure, png=png, pdf=pdf)
    return {"sentences": len(chosen)}


def draw_attention(
    films: np.ndarray,
    maps: np.ndarray,
    fields: Sequence[tuple[float, float, float, float]],
    boxes: Sequence[np.ndarray],
    sentences: Sequence[str],
    title: str,
) -> Figure:
    """A grid of n films with their maps over what the network saw of them.

    Args:
        films: (n, S, S) uint8, squares of the store.
        maps: (n, h, w), each drawn from its lowest to its highest value.
        fields: x1, y1, x2, y2 of the network's input in each square, pixels.
        boxes: true regions of each film, (m, 4), pixels of the square.
    """
    rows = max(1, -(-len(films) // COLUMNS))
    with rc_context(STYLE):
        figure = Figure(figsize=(2.3 * COLUMNS, 2.7 * rows + 0.3), layout="constrained")
        figure.suptitle(title if len(films) else f"{title}: no sentence to show")
        for i, axes in enumerate(figure.subplots(rows, COLUMNS, squeeze=False).flat):
            axes.set_axis_off()
            if i >= len(films):
                continue
            x1, y1, x2, y2 = fields[i]
            axes.imshow(films[i], cmap="gray", vmin=0, vmax=255)
            fine = upsample(maps[i : i + 1], round(x2 - x1))[0]
            axes.imshow(fine, cmap="inferno", vmin=0, vmax=1, alpha=0.45, extent=(x1, x2, y2, y1))
            for left, top, right, bottom in boxes[i]:
                frame = Rectangle((left, top), right - left, bottom - top, fill=False, color="cyan")
                axes.add_patch(frame)
            side = films.shape[1]
            axes.set(xlim=(-0.5, side - 0.5), ylim=(side - 0.5, -0.5))
            axes.set_title(textwrap.fill(sentences[i], 34), fontsize=7)
    return figure


def tsne_figure(
    *, features: Path, store_table: Path, index: Path, seed: int, title: str, png: Path, pdf: Path, json: Path
) -> dict[str, Any]:
    """Draw a trunk's features of CheXpert 5x200 by t-SNE, and write the numbers that its separation comes to.

    Args:
        features: of the step `features` for CheXpert, (rows of the store, views, C); the first view is the centre crop.
        seed: of the draw and of t-SNE.

    Returns:
        `separation` of the features (not of the plane), and `images_a_class`. Below two images a class the numbers are
        None and the picture says so.
    """
    stored = read_parquet(store_table, columns=["image_id", "row"]).set_index("image_id")["row"]
    table = read_parquet(index)
    five = five_classes(table[table["image_id"].map(stored).ge(0)], seed)
    count = len(five) // len(COMPETITION)
    numbers: dict[str, Any] = {"images_a_class": count}
    points = None
    if count > 1:
        x = np.load(features, mmap_mode="r")[stored.loc[five["image_id"]].to_numpy(), 0]
        numbers |= separation(x, five["target"].to_numpy(), five["group_id"].to_numpy(str))
        points = embed_in_plane(x, seed)
    else:
        numbers |= dict.fromkeys(("silhouette", "knn_purity", "knn_accuracy", "knn_chance", "k"))
    save(draw_classes(points, five["target"].to_numpy(), numbers, title), png=png, pdf=pdf)
    write_json(json, numbers)
    return numbers


def embed_in_plane(features: np.ndarray, seed: int) -> np.ndarray:
    """(n, C) -> (n, 2) by t-SNE on cosine distances, from the principal components."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(features) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed, n_jobs=1)
    # n_jobs is not for the gradient, whose OpenMP threads wait busily: two such jobs on two cores took 40 s, not 0.3
    with threadpool_limits(1):
        return tsne.fit_transform(np.asarray(features, np.float64))


def draw_classes(
    points: np.ndarray | None, targets: np.ndarray, numbers: dict[str, Any], title: str
) -> Figure:
    """A scatter plot of points (n, 2) by class, with the numbers of `separation` below it."""
    with rc_context(STYLE):
        figure = Figure(figsize=(4, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.set(title=title, xticks=[], yticks=[])
        below = f"CheXpert 5x200: only {numbers['images_a_class']} image(s) in the smallest class"
        if points is not None:
            for number, (name, (colour, marker)) in enumerate(zip(COMPETITION, STYLES, strict=True)):
                part = points[targets == number]
                axes.scatter(*part.T, s=10, color=colour, marker=marker, linewidths=0, label=name)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)
            below = (
                f"silhouette {numbers['silhouette']:.3f}, {numbers['k']}-NN purity {numbers['knn_purity']:.3f} "
                f"(chance {numbers['knn_chance']:.3f})\n{numbers['images_a_class']} images a class"
            )
        axes.set_xlabel(below)
    return figure


def save(figure: Figure, **files: Path) -> None:
    """Write a figure as `png` and `pdf`; the same figure gives the same bytes."""
    for ending, file in files.items():
        with rc_context(STYLE), atomic(file) as temporary:
            figure.savefig(temporary, format=ending, dpi=200, metadata=METADATA[ending])
