"""How each finding looks: every function changes the layers of a film and yields, part by part, how plainly it is seen."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce

import numpy as np

from cmcgns.synthetic.anatomy import SIDES, Chest, Lung
from cmcgns.synthetic.camera import bump, power, step
from cmcgns.synthetic.disease import Finding


@dataclass
class Layers:
    """What a film is made of, each (H, W) float32."""

    air: np.ndarray  # 0..1: how dark the lung is
    bright: np.ndarray  # added brightness
    texture: np.ndarray  # 0..1: visibility of vessels
    conspicuity: float = (
        1.0  # how much plainer than in a clinic findings are: so many layers of them, wider by its root
    )

    def fill(self, opacity: np.ndarray) -> None:
        """Replace air by something dense, where `opacity` (0..1) says so."""
        if self.conspicuity != 1:
            opacity = 1 - (1 - opacity) ** np.float32(self.conspicuity)
        self.air *= 1 - opacity
        self.texture *= 1 - 0.6 * opacity


def lungs_of(chest: Chest, finding: Finding) -> Iterator[Lung]:
    """The one or two lungs a finding is in."""
    for side in SIDES:
        if finding.side in (side, "bilateral"):
            yield chest.lungs[side]


def _blob(
    chest: Chest, layers: Layers, lung: Lung, finding: Finding, ragged: float, softness: float
) -> np.ndarray:
    """A soft, ragged ellipse at the finding's place, (H, W) 0..1."""
    x, y = chest.camera.grid
    at_x, at_y = lung.point(finding.x, finding.y)
    rng = np.random.default_rng(finding.seed)
    wider = layers.conspicuity**0.5
    r = np.sqrt(np.square((x - at_x) / (wider * finding.rx)) + np.square((y - at_y) / (wider * finding.ry)))
    if ragged:
        r = r + ragged * chest.camera.pattern(rng, 7.0) + 0.5 * ragged * chest.camera.pattern(rng, 18.0)
    return step(1 - r, softness)


def consolidation(chest: Chest, layers: Layers, finding: Finding) -> Iterator[np.ndarray]:
    """A fluffy opacity in one zone (consolidation, pneumonia, unspecific opacity, and the patches of COVID)."""
    strength = (0.40, 0.58, 0.74)[finding.severity - 1] * (0.72 if finding.label == "Lung Opacity" else 1.0)
    for lung in lungs_of(chest, finding):
        shape = _blob(chest, layers, lung, finding, 0.26, 0.42) * lung.field
        layers.fill(strength * shape)
        yield shape * (lung.air > 0.15)


def lesion(chest: Chest, layers: Layers, finding: Finding) -> Iterator[np.ndarray]:
    """A round, well outlined nodule or mass."""
    for lung in lungs_of(chest, finding):
        shape = _blob(chest, layers, lung, finding, 0.0, 0.16) * lung.field
        layers.fill((0.55, 0.70, 0.85)[finding.severity - 1] * shape)
        yield shape


def edema(chest: Chest, layers: Layers, finding: Finding) -> Iterator[np.ndarray]:
    """Bilateral haze around the hila, with thickened vessels."""
    x, y = chest.camera.grid
    rng = np.random.default_rng(finding.seed)
    ragged = 1 + 0.35 * chest.camera.pattern(rng, 9.0)
    for lung in lungs_of(chest, finding):
        near = bump(np.sqrt(np.square((lung.t - 0.24) / 0.34) + np.square((y + 0.02) / 0.46)))
        haze = near * np.clip(ragged, 0.3, 1.7) * lung.field
        layers.fill(np.clip((0.15, 0.27, 0.42)[finding.severity - 1] * haze, 0, 0.9))
        layers.texture += (0.3, 0.6, 1.0)[finding.severity - 1] * near * lung.field
        yield near * (lung.air > 0.3)


def atelectasis(chest: Chest, layers: Layers, finding: Finding) -> Iterator[np.ndarray]:
    """Plate-like bands just above the diaphragm; the larger, the more and the thicker."""
    _, y = chest.camera.grid
    for lung in lungs_of(chest, finding):
        rng = np.random.default_rng([finding.seed, lung.sign + 1])
        length = (0.16, 0.21, 0.26)[finding.severity - 1]
        for number in range(finding.severity):
            height = lung.dome - 0.075 - 0.085 * number + rng.uniform(-0.02, 0.02)
            middle = lung.centre + rng.uniform(-0.06, 0.08)
            slant = rng.uniform(-0.35, 0.35)
            along = lung.t - middle
            across = y - height - slant * along - 0.3 * along**2
            thick = (0.020, 0.025, 0.028)[finding.severity - 1]
            band = step(thick - np.abs(across), 0.010) * step(length - np.abs(along), 0.05) * lung.field
            layers.fill((0.60, 0.72, 0.8)[finding.severity - 1] * band)
            yield band * (lung.air > 0.3)


def effusion(chest: Chest, layers: Layers, finding: Finding) -> Iterator[np.ndarray]:
    """Fluid with a meniscus: blunts the costophrenic angle, then climbs the wall."""
    _, y = chest.camera.grid
    rng = np.random.default_rng(finding.seed)
    for lung in lungs_of(chest, finding):
        depth = (0.03, 0.12, 0.28)[finding.severity - 1] * rng.uniform(0.85, 1.15)
        outward = np.clip((lung.t - lung.centre + lung.reach) / (2 * lung.reach), 0, 1.1)
        surface = lung.dome - depth + 0.10 - 0.21 * outward * outward * outward
        fluid = step(y - surface, 0.028) * lung.field
        layers.fill(0.93 * fluid)
        yield fluid * (lung.air > 0.2)


def pneumothorax(chest: Chest, layers: Layers, finding: Finding) -> Iterator[np.ndarray]:
    """A dark, empty rim below the apex and along the wall, behind a thin pleural line."""
    _, y = chest.camera.grid
    for lung in lungs_of(chest, finding):
        width = (0.10, 0.19, 0.32)[finding.severity - 1]
        down = (0.35, 0.65, 1.0)[finding.severity - 1]
        fade = step(lung.top + down * (lung.dome - lung.top) - y, 0.12)
        shrunk = np.where(y < 0.12, 0.12 - lung.top - width * 1.1, 1.5).astype(np.float32)
        u = (lung.t - lung.centre + 0.55 * width) / (lung.reach - 0.45 * width)
        edge = 1 - power(u) - power((y - 0.12) / shrunk)
        rim = step(-edge, 0.05) * lung.field * fade * (lung.t > 0.17)
        layers.texture *= 1 - rim
        layers.air += 0.34 * layers.conspicuity * rim * lung.air
        line = bump(edge / 0.055) * lung.field * fade * (lung.t > 0.17)
        layers.bright += 0.20 * layers.conspicuity * line
        yield rim * (lung.air > 0.25)


def pleural_other(chest: Chest, layers: Layers, finding: Finding) -> Iterator[np.ndarray]:
    """Thickening: a bright, wavy band along the inside of the chest wall."""
    _, y = chest.camera.grid
    for lung in lungs_of(chest, finding):
        _, height = lung.point(1.0, finding.y)
        length = (0.16, 0.22, 0.30)[finding.severity - 1]
        depth = (0.20, 0.30, 0.42)[finding.severity - 1]
        rng = np.random.default_rng(finding.seed)
        wavy = depth * (1 + 0.25 * chest.camera.pattern(rng, 6.0))
        outer = (lung.t > lung.centre) | (y < lung.top + 0.2)
        band = step(wavy - lung.level, 0.07) * step(length - np.abs(y - height), 0.05) * lung.field * outer
        layers.fill(0.75 * band)
        yield band


def fracture_places(chest: Chest, findings: tuple[Finding, ...]) -> list[tuple[int, float, float, float]]:
    """(sign, t, y, severity) of every broken rib, for `anatomy.bones`."""
    places = []
    for finding in findings:
        if finding.label == "Fracture":
            for lung in lungs_of(chest, finding):
                x, y = lung.point(0.86, finding.y)
                places.append((lung.sign, abs(x), y, float(finding.severity)))
    return places


def fracture(chest: Chest, layers: Layers, finding: Finding) -> Iterator[np.ndarray]:
    """The callus and the dark gap at a broken rib; the displaced rib itself is drawn with the bones."""
    x, y = chest.camera.grid
    for sign, at, height, severity in fracture_places(chest, (finding,)):
        t = x * sign
        r2 = ((t - at) / 0.075) ** 2 + ((y - height) / 0.10) ** 2
        layers.bright += 0.055 * layers.conspicuity * severity * bump(np.sqrt(r2))
        layers.bright -= (
            0.05 * layers.conspicuity * severity * bump((t - at) / 0.013) * bump((y - height) / 0.11)
        )
        yield r2 < 1.0


# label -> how it is drawn, and how plainly a pixel must show it to be a part of it
DRAW: dict[str, tuple[Callable[[Chest, Layers, Finding], Iterator[np.ndarray]], float]] = {
    "Consolidation": (consolidation, 0.45),
    "Lung Opacity": (consolidation, 0.45),
    "Lung Lesion": (lesion, 0.5),
    "Edema": (edema, 0.45),
    "Atelectasis": (atelectasis, 0.5),
    "Pleural Effusion": (effusion, 0.5),
    "Pneumothorax": (pneumothorax, 0.5),
    "Pleural Other": (pleural_other, 0.5),
    "Fracture": (fracture, 0.5),
}


def draw_lesion(label: str, chest: Chest, layers: Layers, finding: Finding) -> np.ndarray:
    """Draw a finding as `label` looks, and return where it is to be seen, (H, W) bool."""
    draw, least = DRAW[label]
    return reduce(np.maximum, draw(chest, layers, finding), np.zeros_like(layers.air)) > least
