"""A film: one image file to be drawn and written, and the truth that comes back from drawing it."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from cmcgns.randomness import numpy_rng
from cmcgns.synthetic.draw import Box, Drawing, draw, draw_lateral
from cmcgns.synthetic.files import (
    encode_dicom,
    encode_jpeg,
    encode_png,
    encode_rle,
    enlarge,
    enlarge_mask,
    write_bytes,
)
from cmcgns.synthetic.hardware import ForeignObject
from cmcgns.synthetic.style import STYLES
from cmcgns.synthetic.world import Study

DICOM_SIZE = 1024


@dataclass(frozen=True)
class Film:
    """One image file.

    `film_id` names the exposure: two films with one `film_id` show the very same picture (RSNA's films in COVIDx and
    SIIM). `image_id` is the id of its source's index table.
    """

    source: str
    image_id: str
    path: str  # relative to the source's folder
    film_id: str
    study: Study
    view: str  # as drawn: AP, PA or LATERAL
    style: str
    size: int
    form: Literal["jpeg", "dicom", "grey", "rgb", "rgba", "grey16"] = "jpeg"
    uids: tuple[str, str, str] = ("", "", "")
    dicom_id: str = ""  # PatientID inside the DICOM
    objects: tuple[ForeignObject, ...] = ()
    masks: bool = False  # return the pneumothorax masks


@dataclass(frozen=True)
class Shot:
    """What drawing a film told: its truth and its file's sha256."""

    height: int
    width: int
    sha256: str
    boxes: dict[int, list[Box]]
    objects: list[tuple[int, list[tuple[int, int]]]]
    masks: list[str] = field(default_factory=list)  # run-length codes, one per pneumothorax row


def shoot(film: Film, root: Path, seed: int, conspicuity: float = 1.0) -> Shot:
    """Draw a film and write it below `root` (the source's folder)."""
    rng = numpy_rng(seed, "image", film.film_id)
    style = STYLES[film.style]
    if film.view == "LATERAL":
        drawing = Drawing(draw_lateral(film.study, style, film.size, rng), {}, {}, [])
    else:
        drawing = draw(film.study, film.view, style, film.size, rng, film.objects, conspicuity)
    data, (height, width) = _encode(film, drawing.image)
    write_bytes(root / film.path, data)
    masks = _mask_rows(film, drawing, numpy_rng(seed, "mask rows", film.image_id)) if film.masks else []
    return Shot(height, width, hashlib.sha256(data).hexdigest(), drawing.boxes, drawing.objects, masks)


def _encode(film: Film, image: np.ndarray) -> tuple[bytes, tuple[int, int]]:
    if film.form == "jpeg":
        return encode_jpeg(image), image.shape
    if film.form != "dicom":
        return encode_png(image, film.form), image.shape
    patient = {
        "PatientID": film.dicom_id,
        "PatientSex": film.study.patient.sex,
        "PatientAge": str(film.study.patient.age),
        "ViewPosition": film.view,
    }
    large = enlarge(image, DICOM_SIZE)
    return encode_dicom(large, film.uids, patient), large.shape


def _mask_rows(film: Film, drawing: Drawing, rng: np.random.Generator) -> list[str]:
    """The rows of one image: a mask is whole, or cut in two, or drawn by two readers whose masks overlap."""
    rows = []
    for number, mask in drawing.masks.items():
        if film.study.findings[number].label != "Pneumothorax" or not mask.any():
            continue
        whole = enlarge_mask(mask, DICOM_SIZE)
        pieces = [whole]
        chance, filled = rng.random(), np.flatnonzero(whole.any(axis=1))
        middle = int(filled[len(filled) // 2])
        if chance < 0.24 and len(filled) > 40:
            overlap = 0 if chance < 0.12 else 16
            upper, lower = whole.copy(), whole.copy()
            upper[middle + overlap :] = False
            lower[: middle - overlap] = False
            pieces = [upper, lower]
        rows += [encode_rle(piece) for piece in pieces if piece.any()]
    return rows
