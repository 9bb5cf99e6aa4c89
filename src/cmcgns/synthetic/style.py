"""How each source makes its films look: framing, exposure, sharpness, grain, markers and borders."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from cmcgns.synthetic.camera import Camera

Range = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """Ranges from which one film's look is drawn."""

    aspect: Range = (1.0, 1.0)  # height / width
    contrast: Range = (0.75, 1.15)
    gamma: Range = (0.75, 1.35)
    level: Range = (-0.11, 0.11)  # added brightness: exposure
    blur: Range = (0.1, 0.55)  # pixels of the drawing, before it is enlarged
    noise: Range = (0.008, 0.03)
    rotation: float = 0.05  # standard deviation, radians
    marker: float = 0.6  # chance of an L or R
    border: float = 0.1  # chance of a black or white frame
    equalize: Range = (0.0, 0.0)  # mix with the histogram-equalised film
    text: float = 0.0  # chance of burnt-in writing


STYLES = {
    "mimic_cxr": Style(aspect=(0.82, 1.22), equalize=(0.3, 0.9), noise=(0.008, 0.028)),
    "chexpert": Style(aspect=(0.82, 1.22), contrast=(0.8, 1.2), marker=0.7),
    "nih": Style(gamma=(0.8, 1.3), noise=(0.006, 0.022), marker=0.75),
    "stonybrook": Style(aspect=(0.95, 1.2), contrast=(0.65, 1.0), level=(-0.05, 0.12), blur=(0.2, 0.7)),
    "ricord": Style(aspect=(0.85, 1.15), contrast=(0.8, 1.2), gamma=(0.7, 1.1), marker=0.5),
    "publications": Style(
        aspect=(0.75, 1.2), blur=(0.3, 0.8), noise=(0.01, 0.04), border=0.35, text=0.5, rotation=0.06
    ),
    "object_cxr": Style(aspect=(0.9, 1.25), contrast=(0.85, 1.25), gamma=(0.8, 1.2), noise=(0.006, 0.02)),
}


def make_camera(style: Style, size: int, rng: np.random.Generator) -> Camera:
    """Frame a film whose longer side is `size` pixels."""
    ratio = float(rng.uniform(*style.aspect))
    height, width = (size, round(size / ratio)) if ratio >= 1 else (round(size * ratio), size)
    return Camera(
        height,
        width,
        zoom=float(rng.uniform(0.94, 1.28)),
        dx=float(np.clip(rng.normal(0, 0.07), -0.15, 0.15)),
        dy=float(np.clip(rng.normal(0, 0.07), -0.15, 0.15)),
        angle=float(np.clip(rng.normal(0, style.rotation), -0.14, 0.14)),
    )


def develop(
    film: np.ndarray, metal: np.ndarray | None, camera: Camera, style: Style, rng: np.random.Generator
) -> np.ndarray:
    """Brightness, about 0..1, -> the uint8 film of this style at the camera's size.

    Args:
        film: (h, w) float32 at any size; blurred and enlarged here.
        metal: (H, W) brightness to add, crisp, at the camera's size.
    """
    height, width = camera.height, camera.width
    values = enlarge(_blur(film, rng.uniform(*style.blur)), (width, height))
    if metal is not None:
        values = values + metal
    tilt = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(rng.normal(0, 0.05))
    tilt = tilt + np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(rng.normal(0, 0.05))
    contrast, level = np.float32(rng.uniform(*style.contrast)), np.float32(rng.uniform(*style.level))
    grain = rng.random((height, width), np.float32)  # the difference of two is triangular, sd 0.41
    grain -= rng.random((height, width), np.float32)
    values = (values + (tilt - 0.5)) * contrast + grain * np.float32(rng.uniform(*style.noise) / 0.41)
    values += 0.5 + level
    codes = (np.clip(values, 0, 1) * np.float32(255)).astype(np.uint8)
    curve = (np.arange(256) / 255) ** rng.uniform(*style.gamma)
    mix = rng.uniform(*style.equalize)
    if mix:
        curve = (1 - mix) * curve + mix * np.bincount(codes.ravel(), minlength=256).cumsum() / codes.size
    return _write_on(np.round(255 * curve).astype(np.uint8)[codes], style, rng)


def enlarge(field: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A smooth field at (width, height)."""
    return np.asarray(
        Image.fromarray(field.astype(np.float32, copy=False)).resize(size, Image.Resampling.BICUBIC)
    )


def _blur(values: np.ndarray, pixels: float) -> np.ndarray:
    """A small separable blur; `pixels` is its standard deviation, at most 0.8."""
    side = np.float32(min(pixels**2 / 2, 0.33))
    padded = np.pad(values, 1, mode="edge")
    rows = side * (padded[:-2] + padded[2:]) + (1 - 2 * side) * padded[1:-1]
    return side * (rows[:, :-2] + rows[:, 2:]) + (1 - 2 * side) * rows[:, 1:-1]


def _write_on(film: np.ndarray, style: Style, rng: np.random.Generator) -> np.ndarray:
    """Side marker, burnt-in writing and frame."""
    image = Image.fromarray(film)
    pen, (width, height) = ImageDraw.Draw(image), image.size
    if rng.random() < style.marker:
        left = bool(rng.random() < 0.6)  # the patient's left is the film's right
        column = width * (rng.uniform(0.84, 0.93) if left else rng.uniform(0.03, 0.10))
        where = (column, height * rng.uniform(0.03, 0.12))
        pen.text(
            where, "L" if left else "R", fill=int(rng.integers(190, 256)), font_size=max(9, height // 18)
        )
    if rng.random() < style.text:
        where = (width * rng.uniform(0.02, 0.5), height * rng.uniform(0.9, 0.95))
        pen.text(where, f"Day {rng.integers(1, 20)}", fill=230, font_size=max(8, height // 22))
    if rng.random() < style.border:
        thick, fill = int(rng.integers(2, max(3, height // 16))), int(rng.choice([0, 0, 255]))
        edges = rng.permutation(4)[: int(rng.integers(1, 5))]
        boxes = [
            (0, 0, width, thick),
            (0, height - thick, width, height),
            (0, 0, thick, height),
            (width - thick, 0, width, height),
        ]
        for edge in edges:
            pen.rectangle(boxes[edge], fill=fill)
    return np.asarray(image)
