"""A side view: only there to be told apart and left out; findings are hinted at, not measured."""

from __future__ import annotations

import numpy as np

from cmcgns.synthetic.camera import ramp, step
from cmcgns.synthetic.draw import DETAIL
from cmcgns.synthetic.style import Style, develop, make_camera
from cmcgns.synthetic.world import Study


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
