"""SIIM-ACR Pneumothorax (spec/data.md 5a): films of the NIH population, masks as run-length rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cmcgns.randomness import numpy_rng
from cmcgns.synthetic.films import Film, Shot
from cmcgns.synthetic.layouts.plan import Plan, drop_files, drop_rows
from cmcgns.synthetic.layouts.rsna import DRAWN, make_uuid, uid
from cmcgns.synthetic.world import Study

# dialect -> (header, what stands before a value)
DIALECTS = {
    "stage1": ("ImageId, EncodedPixels", " "),
    "merged": ("ImageId, EncodedPixels", ""),
    "stage2": ("ImageId,EncodedPixels", ""),
}


def plan_siim(
    population: Sequence[Study], n: int, *, seed: int, dialect: str = "stage1", missing: int = 0
) -> Plan:
    """Plan `n` films that are listed, and one film that has no row, as published.

    The population is RSNA's: a study that both draw from is one exposure, the very same film under two ids.
    """
    rng = numpy_rng(seed, "siim")
    chosen = rng.permutation(len(population))[: n + 1]
    films = [_film(population[i], rng) for i in chosen]
    gone, unlisted = drop_files(n, missing), drop_rows(n, missing) | {n}
    films = [replace(film, exists=number not in gone) for number, film in enumerate(films)]

    def label_files(shots: list[Shot]) -> dict[str, str]:
        header, before = DIALECTS[dialect]
        lines = [header]
        for number, (film, shot) in enumerate(zip(films, shots, strict=True)):
            if number not in unlisted:
                lines += [f"{film.image_id},{before}{code}" for code in shot.masks or ["-1"]]
        return {"siim/train-rle.csv": "\n".join(lines) + "\n"}

    return Plan("siim", "siim", films, label_files)


def _film(study: Study, rng: np.random.Generator) -> Film:
    uids = (uid(rng, 2), uid(rng, 3), uid(rng, 4))
    return Film(
        source="siim",
        image_id=uids[2],
        path=f"dicom-images-train/{uids[0]}/{uids[1]}/{uids[2]}.dcm",
        film_id=f"{study.study_id}-0",
        study=study,
        view=study.view,
        style="nih",
        size=DRAWN,
        form="dicom",
        uids=uids,
        dicom_id=make_uuid(rng),
        masks=True,
    )
