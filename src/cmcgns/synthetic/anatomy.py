"""The normal chest: rib cage, lungs, heart, diaphragm and bones as smooth fields over a film."""

from dataclasses import dataclass

import numpy as np

from cmcgns.synthetic.camera import Camera, bump, power, ramp
from cmcgns.synthetic.world import Body

SIDES = {"right": -1, "left": 1}  # sign of body x


@dataclass
class Lung:
    """One lung on a film. Arrays are (H, W) float32."""

    sign: int
    t: np.ndarray  # distance from the midline, positive into this lung
    level: np.ndarray  # > 0 inside the rib cage's outline, about 1 at the centre
    floor: np.ndarray  # distance above the diaphragm, negative below it
    air: np.ndarray  # 0..1, aerated and not covered by the heart or mediastinum
    field: np.ndarray  # 0..1, inside the lung's outline, heart and mediastinum ignored
    centre: float  # of the outline
    reach: float  # half width of the outline
    top: float  # y of the apex
    dome: float  # y of the diaphragm's dome

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Body coordinates of a lung-relative place (x: 0 mediastinum .. 1 wall, y: 0 apex .. 1 diaphragm)."""
        body_y = self.top + 0.06 + y * (self.dome - self.top - 0.02)
        half = self.reach * max(1 - abs((body_y - 0.12) / (self.top - 0.12)) ** 2.5, 0.05) ** 0.4
        if body_y > 0.12:
            half = self.reach
        inner = max(self.centre - half, 0.16)
        return self.sign * (inner + x * (self.centre + half - inner)), body_y


@dataclass
class Chest:
    """The normal chest of one body under one camera, before any finding."""

    camera: Camera
    body: Body
    lungs: dict[str, Lung]
    heart: np.ndarray  # 0..1
    middle: np.ndarray  # mediastinum without the heart, 0..1
    inside: np.ndarray  # 0..1, body against air


def make_chest(
    camera: Camera, body: Body, *, view: str, heart_ratio: float, widening: float, breath: float
) -> Chest:
    """Lay out the chest.

    Args:
        heart_ratio: cardio-thoracic ratio to draw.
        widening: added half width of the upper mediastinum, body units.
        breath: lifts the diaphragm (poor inspiration), body units.
    """
    x, y = camera.grid
    magnify = 1.07 if view == "AP" else 1.0
    inner = 0.76 * body.width  # half width of the thorax
    half_heart = heart_ratio * inner * magnify
    centre = 0.30 * half_heart + 0.02 + body.heart_shift
    dome = body.base - breath
    heart = _heart(x, y, centre, dome - 0.17, half_heart)
    middle = _mediastinum(x, y, widening)
    lungs = {side: _lung(x, y, sign, body, dome) for side, sign in SIDES.items()}
    for lung in lungs.values():
        lung.air = lung.field * (1 - heart) * (1 - middle)
    return Chest(camera, body, lungs, heart, middle, _torso(x, y, body))


def _lung(x: np.ndarray, y: np.ndarray, sign: int, body: Body, dome: float) -> Lung:
    t = x * sign
    centre, reach = 0.43 * body.width, 0.33 * body.width
    dome = dome + (0.045 if sign > 0 else 0.0)  # the liver lifts the right side
    tall = np.where(y < 0.12, np.float32(0.12 - body.apex), np.float32(1.5))
    level = 1 - power((t - centre) * np.float32(1 / reach)) - power((y - 0.12) * (1 / tall))
    floor = dome + 1.25 * np.square(t - (centre - 0.05)) - y
    field = ramp(level, 0.11) * ramp(floor, 0.013)
    return Lung(sign, t, level, floor, field, field, centre, reach, body.apex, dome)


def _heart(x: np.ndarray, y: np.ndarray, centre: float, middle: float, half: float) -> np.ndarray:
    cos, sin = np.cos(0.42), np.sin(0.42)
    u, v = x - centre, y - middle
    long, short = half * 1.04, half * 0.74
    r = np.square(u * (cos / long) + v * (sin / long)) + np.square(v * (cos / short) - u * (sin / short))
    return ramp(1 - r, 0.09)


def _mediastinum(x: np.ndarray, y: np.ndarray, widening: float) -> np.ndarray:
    upper = bump((y + 0.30) * (1 / 0.26))
    half = 0.115 + 0.05 * ramp(y - 0.1, 0.2) + widening * upper
    column = ramp(half - np.abs(x - 0.01), 0.022)
    knob = ramp(
        (0.085 + 0.35 * widening) ** 2 - np.square(x - 0.10 - 0.5 * widening) - np.square(y + 0.30), 0.004
    )
    return np.maximum(column, knob)


def _torso(x: np.ndarray, y: np.ndarray, body: Body) -> np.ndarray:
    off = np.maximum(np.abs(x) - 0.28, 0)
    shoulder = -0.84 + 0.44 * off * np.sqrt(off + 0.1)
    side = (0.90 + 0.12 * body.girth) * body.width
    trunk = ramp(y - shoulder, 0.02) * ramp(side + 0.35 * ramp(-0.30 - y, 0.15) - np.abs(x), 0.02)
    return np.maximum(trunk, ramp(0.27 - np.abs(x), 0.03) * ramp(-0.6 - y, 0.1))


def bones(chest: Chest, fractures: list[tuple[int, float, float, float]]) -> np.ndarray:
    """Ribs, clavicles and spine, (H, W) added brightness about 0..1.

    Args:
        fractures: (sign of the side, t, y, severity): the rib there is broken, its outer piece stepped down.
    """
    x, y = chest.camera.grid
    body = chest.body
    t = np.abs(x)
    curve = y + body.rib_slope * 0.5 * t - 0.55 * (1 + body.rib_slope) * np.square(np.maximum(t - 0.25, 0))
    front = y - 0.6 * (0.55 + body.rib_slope) * np.square(0.8 - t)
    for sign, at, height, severity in fractures:
        near = bump((t - at) / 0.15) * bump((y - height) / 0.11) * (x * sign > 0)
        curve = curve - 0.028 * severity * near * ramp(t - at, 0.006)
    back_ribs = ramp(np.cos(2 * np.pi * (curve / body.rib_spacing + body.rib_phase)) - 0.25, 0.35)
    front_ribs = ramp(np.cos(2 * np.pi * (front / (body.rib_spacing * 1.15) + body.rib_phase)) - 0.35, 0.35)
    cage = sum(ramp(lung.level + 0.12, 0.06) for lung in chest.lungs.values())
    lower = ramp(0.42 - y, 0.1)
    wall = sum(bump(lung.level / 0.16) * (lung.t > lung.centre) for lung in chest.lungs.values())
    ribs = cage * (0.75 * back_ribs * (0.55 + 0.6 * t) + 0.38 * front_ribs * ramp(t - 0.3, 0.1) * lower)
    bar = y + 0.60 + 0.16 * (t - 0.1) - 0.12 * np.sin(3.6 * t)
    clavicle = ramp(0.030 - np.abs(bar), 0.012) * ramp(t - 0.06, 0.02) * ramp(0.78 * body.width - t, 0.03)
    spine = ramp(0.075 - t, 0.012) * (0.6 + 0.4 * np.cos(2 * np.pi * y / 0.115))
    return ribs * (1 + 0.6 * wall) + 0.85 * clavicle + 0.35 * spine


def vessels(chest: Chest, seed: int) -> np.ndarray:
    """Hila and the branching vessel shadows, (H, W), about 0..1, strongest at the hila; fixed to the patient."""
    rng = np.random.default_rng(seed)
    _, y = chest.camera.grid
    total = np.zeros_like(y)
    fine = chest.camera.pattern(rng, 16.0)
    hilum = rng.uniform(0.25, 0.95)  # prominent hila are not yet edema
    turns = np.linspace(-np.pi / 2, np.pi / 2, 512)
    for lung in chest.lungs.values():
        u, v = lung.t - 0.19, y - (-0.05 + 0.03 * lung.sign)
        r2 = u * u + v * v
        direction = v / (
            np.abs(u) + np.abs(v) + 1e-6
        )  # -1..1, grows with the angle: an arctan for a tenth of its price
        rays = sum(np.cos(k * turns + p) for k, p in zip((9, 14, 23), rng.uniform(0, 6.3, 3), strict=True))
        streaks = (rays / 3).astype(np.float32)[((direction + 1) * 255.9).astype(np.int16)] + 0.45 * fine
        np.maximum(streaks, 0, out=streaks)
        total += lung.field * (
            hilum * bump(np.sqrt(r2) * np.float32(1 / (0.06 + 0.06 * hilum)))
            + 0.8 * streaks / (1 + r2 / 0.03)
        )
    return total
