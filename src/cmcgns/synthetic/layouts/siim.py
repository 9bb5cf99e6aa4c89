"""SIIM-ACR Pneumothorax (spec/data.md 5a): films of the NIH population, masks as run-length rows."""

from collections.abc import Sequence

import numpy as np

from cmcgns.randomness import numpy_rng
from cmcgns.synthetic.films import Film, Shot
from cmcgns.synthetic.layouts.plan import Plan
from cmcgns.synthetic.layouts.rsna import DRAWN, make_uuid, uid
from cmcgns.synthetic.world import Study


def plan_siim(population: Sequence[Study], n: int, *, seed: int) -> Plan:
    """Plan `n` films that are listed, and one film that has no row, as published.

    The population is RSNA's: a study that both draw from is one exposure, the very same film under two ids.
    """
    rng = numpy_rng(seed, "siim")
    chosen = rng.permutation(len(population))[: n + 1]
    films = [_film(population[i], rng) for i in chosen]

    def label_files(shots: list[Shot]) -> dict[str, str]:
        lines = ["ImageId, EncodedPixels"]  # with blanks, as stage 1 has it
        for film, shot in zip(films[:n], shots, strict=False):
            lines += [f"{film.image_id}, {code}" for code in shot.masks or ["-1"]]
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
