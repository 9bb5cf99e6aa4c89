"""Pixels and body coordinates: how a body is framed on a film, and patterns that move with the body.

Body coordinates: x from the midline, positive to the patient's left (the right of the film); y downwards; the chest is
about 2 wide. Everything is drawn as a function of them, so size, rotation and framing cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from PIL import Image

SPAN = 3.2  # body units that a pattern covers; more than any film shows


@dataclass(frozen=True)
class Camera:
    """A similarity transform from a film of `height` x `width` pixels to the body."""

    height: int
    width: int
    zoom: float = 1.0  # > 1: the body looks larger
    dx: float = 0.0  # body units
    dy: float = 0.0
    angle: float = 0.0  # radians

    @property
    def unit(self) -> float:
        """Pixels per body unit."""
        return self.zoom * min(self.width / 1.98, self.height / 1.86)

    def shrunk(self, longer: int) -> Camera:
        """The same framing on a film whose longer side has `longer` pixels, if that is smaller."""
        scale = min(1.0, longer / max(self.height, self.width))
        return replace(self, height=round(self.height * scale), width=round(self.width * scale))

    def affine(self) -> tuple[float, float, float, float, float, float]:
        """(a, b, c, d, e, f) with x = a*column + b*row + c and y = d*column + e*row + f."""
        cos, sin = np.cos(self.angle) / self.unit, np.sin(self.angle) / self.unit
        column, row = (self.width - 1) / 2, (self.height - 1) / 2
        return (
            cos,
            -sin,
            -cos * column + sin * row + self.dx,
            sin,
            cos,
            -sin * column - cos * row - 0.08 + self.dy,
        )

    @cached_property
    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Body x and y of every pixel, each (height, width) float32."""
        a, b, c, d, e, f = self.affine()
        columns = np.arange(self.width, dtype=np.float32)[None, :]
        rows = np.arange(self.height, dtype=np.float32)[:, None]
        return (
            (a * columns + (b * rows + c)).astype(np.float32),
            (d * columns + (e * rows + f)).astype(np.float32),
        )

    def pattern(self, rng: np.random.Generator, cells: float) -> np.ndarray:
        """Smooth noise that is fixed to the body: about unit variance, one bump every 1/cells body units.

        Returns:
            (height, width) float32; the same generator gives the same pattern under any camera.
        """
        n = int(np.ceil(SPAN * cells)) + 2
        table = Image.fromarray(rng.standard_normal((n, n), dtype=np.float32))
        fine = max(n, int(0.6 * SPAN * self.unit))  # smooth once, then look up the nearest: the cheapest way
        table = table.resize((fine, fine), Image.Resampling.BICUBIC)
        a, b, c, d, e, f = (value * cells * fine / n for value in self.affine())
        to_table = (a, b, c + fine / 2, d, e, f + fine / 2)
        return np.asarray(table.transform((self.width, self.height), Image.Transform.AFFINE, to_table)) * 1.3


def power(value: np.ndarray) -> np.ndarray:
    """|value| ** 2.5: the roundness of the rib cage, at the price of a square root."""
    return value * value * np.sqrt(np.abs(value))


def step(value: np.ndarray, softness: float) -> np.ndarray:
    """A smooth step: 0 far below zero, 1 far above it, with slope 1/(2*softness) at zero (a cubic, cheaper than tanh)."""
    return _smooth(_straight(value, 3 * softness))


def ramp(value: np.ndarray, softness: float) -> np.ndarray:
    """`step` with straight sides: for narrow edges, where the difference is not to be seen; a third of the price."""
    return _straight(value, 2.4 * softness)


def bump(value: np.ndarray) -> np.ndarray:
    """A smooth bump, 1 at zero and 0 outside [-2, 2]: close to exp(-value**2) and cheaper."""
    v = np.abs(value)
    v *= np.float32(-0.5)
    v += 1
    np.maximum(v, 0, out=v)
    return _smooth(v)


def _straight(value: np.ndarray, width: float) -> np.ndarray:
    """From 0 to 1 over `width`, one half at zero."""
    v = value * np.float32(1 / width)
    v += np.float32(0.5)
    np.maximum(v, 0, out=v)
    np.minimum(v, 1, out=v)
    return v


def _smooth(v: np.ndarray) -> np.ndarray:
    """3 v**2 - 2 v**3 of numbers from 0 to 1, which are overwritten."""
    curve = v * np.float32(-2)
    curve += np.float32(3)
    v *= v
    curve *= v
    return curve


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Tight (x1, y1, x2, y2) of a boolean mask in pixels, ends excluded; the mask is not empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
