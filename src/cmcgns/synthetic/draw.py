"""A study drawn as a radiograph, with the truth about where everything is."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from cmcgns.synthetic.anatomy import Chest, bones, make_chest, vessels
from cmcgns.synthetic.camera import Camera, bounds, ramp, step
from cmcgns.synthetic.disease import Finding
from cmcgns.synthetic.hardware import ForeignObject, device, draw_object
from cmcgns.synthetic.lesions import Layers, draw_lesion, fracture_places
from cmcgns.synthetic.style import Style, develop, make_camera
from cmcgns.synthetic.terms import Side
from cmcgns.synthetic.world import Study

DETAIL = (
    160  # pixels: the body is smooth, so it is drawn at this size and enlarged; grain and metal come after
)
HEART_RATIO = (0.505, 0.54, 0.585)  # cardio-thoracic ratio of cardiomegaly at severity 1, 2, 3
WIDENING = (0.05, 0.085, 0.125)  # of the upper mediastinum, body units


Box = tuple[Side, float, float, float, float]


@dataclass(frozen=True)
class Drawing:
    """A film and its truth.

    `masks` and `boxes` are keyed by the finding's position in `study.findings`. A finding of both lungs has a box in
    each; boxes are (side, x1, y1, x2, y2) relative to the film. `objects` are (type, pixel points) of the foreign objects, as Object-CXR writes them.
    """

    image: np.ndarray  # (H, W) uint8
    masks: dict[int, np.ndarray]  # (h, w) bool, over the whole film, at the resolution it was drawn at
    boxes: dict[int, list[Box]]
    objects: list[tuple[int, list[tuple[int, int]]]]


def draw(
    study: Study,
    view: str,
    style: Style,
    size: int,
    rng: np.random.Generator,
    objects: tuple[ForeignObject, ...] = (),
    conspicuity: float = 1.0,
) -> Drawing:
    """Draw a frontal film (`view` AP or PA) whose longer side is `size` pixels.

    What belongs to the patient (bones, vessels, the outline of a finding) comes from the patient's and the findings'
    own seeds; `rng` only frames and develops the film.
    """
    full = make_camera(style, size, rng)
    camera = full.shrunk(DETAIL)
    breath = float(np.clip(rng.normal(0.05 if view == "AP" else 0.02, 0.05), -0.05, 0.17))
    chest = _chest_of(study, view, camera, breath)
    layers = Layers(
        air=sum(lung.air for lung in chest.lungs.values()),
        bright=np.zeros((camera.height, camera.width), np.float32),
        texture=np.ones((camera.height, camera.width), np.float32),
        conspicuity=conspicuity,
    )
    canvas = Image.new("L", (full.width, full.height))
    masks: dict[int, np.ndarray] = {}
    drawn: dict[int, int] = {}  # a pneumonia is the consolidation of the same seed: drawn once
    for number, finding in enumerate(study.findings):
        if finding.seed in drawn:
            masks[number] = masks[drawn[finding.seed]]
        else:
            masks[number] = _draw_finding(chest, layers, full, canvas, finding)
            drawn[finding.seed] = number
    places = [place for item in objects if (place := draw_object(full, canvas, item))]
    metal = np.asarray(canvas, np.float32) * np.float32(0.42 / 255) if canvas.getbbox() else None
    image = develop(_expose(chest, layers, study, rng), metal, full, style, rng)
    boxes = {number: _boxes(mask, study.findings[number], full) for number, mask in masks.items()}
    return Drawing(image, masks, boxes, places)


def draw_lateral(study: Study, style: Style, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a lateral film, (H, W) uint8: the spine to the right, the heart in front, the lungs between."""
    full = make_camera(style, size, rng)
    camera = full.shrunk(DETAIL)
    x, y = camera.grid
    severity = {f.label: f.severity for f in study.findings}
    body = study.patient.body
    trunk = ramp(0.82 * body.width - np.abs(x + 0.1 * np.sin(2 * y)), 0.02)
    dome = (
        body.base - 0.25 * (x - 0.5) * (x < 0.5) - 0.05 * severity.get("Pleural Effusion", 0) * ramp(x, 0.3)
    )
    lung = step(1 - np.square((x - 0.02) / 0.66) - np.square((y + 0.05) / 0.78), 0.1) * ramp(dome - y, 0.015)
    heart_size = 0.24 + 0.03 * severity.get("Cardiomegaly", 0)
    heart = step(1 - np.square((x + 0.28) / heart_size) - np.square((y - 0.28) / (heart_size * 1.1)), 0.12)
    spine = ramp(0.10 - np.abs(x - 0.52 + 0.12 * y), 0.02) * (0.7 + 0.3 * np.cos(2 * np.pi * y / 0.13))
    ribs = 0.06 * body.bone * lung * np.cos(2 * np.pi * (y - 0.5 * x) / 0.2)
    grain = 0.03 * camera.pattern(np.random.default_rng(body.seed), 10.0)
    film = 0.62 - 0.34 * lung * (1 - 0.9 * heart) + 0.16 * spine + ribs + grain
    return develop(trunk * film + (1 - trunk) * 0.03, None, full, style, rng)


def _chest_of(study: Study, view: str, camera: Camera, breath: float) -> Chest:
    severity = {f.label: f.severity for f in study.findings}
    ratio, widening = study.patient.body.heart, 0.0
    if "Cardiomegaly" in severity:
        ratio = HEART_RATIO[severity["Cardiomegaly"] - 1] + 0.3 * (ratio - 0.445)
    if "Enlarged Cardiomediastinum" in severity:
        widening = WIDENING[severity["Enlarged Cardiomediastinum"] - 1]
    return make_chest(
        camera, study.patient.body, view=view, heart_ratio=ratio, widening=widening, breath=breath
    )


def _draw_finding(
    chest: Chest, layers: Layers, full: Camera, canvas: Image.Image, finding: Finding
) -> np.ndarray:
    if finding.label == "Support Devices":
        return device(full, canvas, finding)
    if finding.label == "Cardiomegaly":
        return chest.heart > 0.5
    if finding.label == "Enlarged Cardiomediastinum":
        _, y = chest.camera.grid
        return (chest.middle > 0.5) & (y < 0.1) & (y > -0.62)
    label = "Consolidation" if finding.label == "Pneumonia" else finding.label
    return draw_lesion(label, chest, layers, finding)


def _expose(chest: Chest, layers: Layers, study: Study, rng: np.random.Generator) -> np.ndarray:
    """Add up what the beam passes: soft tissue, air, vessels, bones; (H, W), about 0..1."""
    body = study.patient.body
    _, y = chest.camera.grid
    haze = body.girth * step(y - rng.uniform(-0.1, 0.2), 0.35)
    tissue = 0.56 + 0.10 * haze + 0.10 * step(y - 0.45, 0.2)
    centre = 0.17 * np.maximum(chest.middle, 0.85 * chest.heart)
    dark = rng.uniform(0.29, 0.45) - 0.10 * haze  # exposure: a hazy lung is not yet a wet one
    places = fracture_places(chest, study.findings)
    texture = (
        rng.uniform(0.09, 0.25)
        * vessels(chest, body.seed)
        * layers.texture
        * np.clip(layers.air + 0.15, 0, 1)
    )
    grain = 0.022 * chest.camera.pattern(np.random.default_rng(body.seed + 1), 10.0)
    skeleton = 0.085 * body.bone * bones(chest, places)
    film = tissue + centre - dark * layers.air + texture + grain + skeleton + layers.bright
    return chest.inside * film + (1 - chest.inside) * 0.03


def _boxes(mask: np.ndarray, finding: Finding, camera: Camera) -> list[Box]:
    if finding.side != "bilateral":
        return _relative(mask, finding.side)
    x, _ = replace(camera, height=mask.shape[0], width=mask.shape[1]).grid
    return _relative(mask & (x < 0), "right") + _relative(mask & (x > 0), "left")


def _relative(mask: np.ndarray, side: Side) -> list[Box]:
    if not mask.any():
        return []
    height, width = mask.shape
    x1, y1, x2, y2 = bounds(mask)
    return [(side, x1 / width, y1 / height, x2 / width, y2 / height)]
