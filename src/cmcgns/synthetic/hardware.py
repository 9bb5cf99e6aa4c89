"""What does not belong to the body: tubes, lines, pacemakers, and the foreign objects of Object-CXR."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from cmcgns.synthetic.camera import Camera
from cmcgns.synthetic.disease import Finding

Path = list[tuple[float, float]]  # body coordinates


@dataclass(frozen=True)
class ForeignObject:
    """A coin, button, zip, clip or necklace.

    `shape` is Object-CXR's type: 0 rectangle, 1 ellipse (two corners of the bounding box), 2 polygon (its vertices).
    `points` are in body coordinates.
    """

    shape: int
    points: tuple[tuple[float, float], ...]
    glare: float  # added brightness


def to_pixels(camera: Camera, points: Path | tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    """Body coordinates -> (column, row), as floats."""
    a, b, c, d, e, f = camera.affine()
    inverse = np.linalg.inv(np.array([[a, b], [d, e]]))
    return [tuple(inverse @ (np.array(point) - (c, f))) for point in points]


def _curve(points: Path, n: int = 24) -> Path:
    """A smooth path through control points (Bezier), n points."""
    control = np.array(points)
    s = np.linspace(0, 1, n)[:, None]
    while len(control) > 1:
        if control.ndim == 2:
            control = np.repeat(control[:, None, :], n, axis=1)
        control = control[:-1] * (1 - s) + control[1:] * s
    return [tuple(p) for p in control[0]]


def device_paths(finding: Finding) -> tuple[list[tuple[Path, float]], list[tuple[float, float, float]]]:
    """Lines (path, width) and discs (x, y, radius) of one device, body units."""
    rng = np.random.default_rng(finding.seed)
    sign = -1 if finding.side == "right" else 1
    j = rng.uniform(-0.03, 0.03, 8)
    match finding.kind:
        case "endotracheal tube":
            return [([(j[0] * 0.4, -1.1), (j[1] * 0.4, -0.6), (j[2] * 0.4, -0.24 + j[3])], 0.024)], []
        case "enteric tube":
            down = [(0.02, -1.1), (0.01 + j[0], -0.2), (0.05 + j[1], 0.35), (0.22 + j[2], 0.75)]
            return [(_curve(down), 0.020)], []
        case "central line":
            neck = [
                (sign * 0.30, -0.9),
                (sign * 0.30 + j[0], -0.45),
                (-0.04 + j[1], -0.55),
                (-0.10, 0.02 + j[2]),
            ]
            return [(_curve(neck), 0.017)], []
        case "chest tube":
            wall = [
                (sign * 0.92, 0.25 + j[0]),
                (sign * 0.55, 0.20 + j[1]),
                (sign * 0.52, -0.25),
                (sign * 0.38, -0.5),
            ]
            return [(_curve(wall), 0.030)], []
        case "port":
            x, y = sign * (0.48 + j[0]), -0.42 + j[1]
            line = [(x, y), (sign * 0.35, -0.72), (-0.06, -0.55), (-0.10, 0.0 + j[2])]
            return [(_curve(line), 0.015)], [(x, y, 0.055)]
        case _:  # pacemaker
            x, y = sign * (0.56 + j[0]), -0.40 + j[1]
            lead = [(x, y), (sign * 0.25, -0.72), (-0.16, -0.50), (-0.16, 0.25), (0.28 + j[2], 0.34)]
            return [(_curve(lead), 0.014), (_curve(lead[:3] + [(-0.12, 0.12 + j[3])]), 0.014)], [
                (x, y, 0.105)
            ]


def device(camera: Camera, canvas: Image.Image, finding: Finding) -> np.ndarray:
    """Draw a device on the hardware canvas (mode L) and return where it is, (H, W) bool."""
    own = Image.new("L", canvas.size)
    pen, unit = ImageDraw.Draw(own), camera.unit
    lines, discs = device_paths(finding)
    for path, width in lines:
        pen.line(to_pixels(camera, path), fill=150, width=max(1, round(width * unit)), joint="curve")
    for x, y, radius in discs:
        (column, row), r = to_pixels(camera, [(x, y)])[0], radius * unit
        pen.ellipse((column - r, row - 0.85 * r, column + r, row + 0.85 * r), fill=230)
    canvas.paste(255, mask=own)
    return np.asarray(own) > 0


def draw_object(
    camera: Camera, canvas: Image.Image, item: ForeignObject
) -> tuple[int, list[tuple[int, int]]] | None:
    """Draw one foreign object; return (type, integer pixel points) as Object-CXR annotates it, None if off the film."""
    corners = np.array(to_pixels(camera, item.points))
    if item.shape != 2:
        corners = np.array([corners.min(axis=0), corners.max(axis=0)])
    size = np.array([camera.width - 1, camera.height - 1])
    points = np.clip(np.round(corners), 0, size).astype(int)
    if (np.ptp(points, axis=0) < 2).any():
        return None
    pen, flat = ImageDraw.Draw(canvas), [tuple(map(int, p)) for p in points]
    fill = round(255 * item.glare)
    if item.shape == 1:
        pen.ellipse((*flat[0], *flat[1]), fill=fill)
        r = (points[1] - points[0]) * 0.16
        if r.min() > 2:  # a button's holes
            centre = points.mean(axis=0)
            pen.ellipse((*(centre - r), *(centre + r)), fill=round(fill * 0.45))
    elif item.shape == 0:
        pen.rectangle((*flat[0], *flat[1]), fill=fill)
    else:
        pen.polygon(flat, fill=fill)
    return item.shape, flat


def make_objects(rng: np.random.Generator, n: int) -> tuple[ForeignObject, ...]:
    """Draw `n` objects: over the chest wall and the neck, seldom over the middle of a lung."""
    return tuple(_make_object(rng) for _ in range(n))


def _make_object(rng: np.random.Generator) -> ForeignObject:
    shape = int(rng.choice([0, 1, 2], p=[0.3, 0.45, 0.25]))
    x, y = rng.uniform(-0.75, 0.75), rng.uniform(-0.75, 0.6)
    glare = float(rng.uniform(0.65, 1.0))
    if shape == 1:
        r = rng.uniform(0.03, 0.075)
        return ForeignObject(1, ((x - r, y - r), (x + r, y + r)), glare)
    if shape == 0:
        w, h = sorted(rng.uniform(0.025, 0.16, 2), reverse=bool(rng.random() < 0.5))
        return ForeignObject(0, ((x - w / 2, y - h / 2), (x + w / 2, y + h / 2)), glare)
    n, r = int(rng.integers(4, 9)), rng.uniform(0.05, 0.13)
    angles = np.sort(rng.uniform(0, 2 * np.pi, n)) + rng.uniform(0, 6.3)
    radii = r * rng.uniform(0.45, 1.0, n)
    points = tuple(
        (float(x + a), float(y + b))
        for a, b in zip(radii * np.cos(angles), radii * np.sin(angles), strict=True)
    )
    return ForeignObject(2, points, glare)
