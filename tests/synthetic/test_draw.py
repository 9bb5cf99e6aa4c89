from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cmcgns.synthetic.camera import Camera, bounds, bump, ramp, step
from cmcgns.synthetic.disease import DEVICES, Finding, make_finding
from cmcgns.synthetic.draw import Drawing, draw, draw_lateral
from cmcgns.synthetic.hardware import ForeignObject, make_objects, to_pixels
from cmcgns.synthetic.style import STYLES, Style
from cmcgns.synthetic.world import Body, Patient, Study

BODY = Body(1.0, -0.72, 0.5, 0.44, 0.0, 0.2, 0.165, 0.2, 0.34, 0.8, 11)
FLAT = Style(
    contrast=(1, 1),
    gamma=(1, 1),
    level=(0, 0),
    blur=(0.2, 0.2),
    noise=(0, 0),
    rotation=0.0,
    marker=0,
    border=0,
)
PLACED = ("Consolidation", "Lung Opacity", "Lung Lesion", "Atelectasis", "Pleural Effusion", "Pleural Other")


def study(*findings: Finding) -> Study:
    return Study("s", Patient("p", "F", 60, BODY), 1, findings, None, "PA")


def finding(label: str, **given) -> Finding:
    return make_finding(label, np.random.default_rng(3), **given)


def take(*findings: Finding, style: Style = FLAT, seed: int = 0) -> Drawing:
    return draw(study(*findings), "PA", style, 160, np.random.default_rng(seed))


def test_camera_round_trip():
    camera = Camera(120, 90, zoom=1.1, dx=0.05, dy=-0.03, angle=0.1)
    x, y = camera.grid
    for row, column in ((0, 0), (60, 45), (119, 10)):
        assert to_pixels(camera, [(x[row, column], y[row, column])])[0] == pytest.approx(
            (column, row), abs=1e-3
        )


def test_pattern_moves_with_the_body():
    straight, zoomed = Camera(160, 160), Camera(160, 160, zoom=1.25, dx=0.1)
    first = straight.pattern(np.random.default_rng(1), 6.0)
    second = zoomed.pattern(np.random.default_rng(1), 6.0)
    x, y = zoomed.grid
    points = to_pixels(straight, [(x[r, c], y[r, c]) for r in range(40, 120, 7) for c in range(40, 120, 7)])
    there = [first[round(row), round(column)] for column, row in points]
    here = [second[r, c] for r in range(40, 120, 7) for c in range(40, 120, 7)]
    assert np.corrcoef(there, here)[0, 1] > 0.97


def test_edges_are_smooth_and_bounded():
    v = np.linspace(-2, 2, 401, dtype=np.float32)
    for edge in (step(v, 0.3), ramp(v, 0.3)):
        assert edge[0] == 0 and edge[-1] == 1 and edge[200] == pytest.approx(0.5)
        assert (np.diff(edge) >= 0).all()
    assert bump(v)[200] == 1 and bump(v)[0] == 0


def test_bounds_are_tight():
    mask = np.zeros((6, 8), bool)
    mask[2:4, 3:7] = True
    assert bounds(mask) == (3, 2, 7, 4)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("label", [*PLACED, "Pneumothorax", "Fracture"])
def test_a_finding_is_drawn_on_its_side_inside_the_film(label, side):
    drawing = take(finding(label, side=side, severity=3))
    ((part, x1, y1, x2, y2),) = drawing.boxes[0]
    assert part == side
    assert 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1
    columns = np.flatnonzero(drawing.masks[0].any(axis=0)) / drawing.masks[0].shape[1]
    # the camera shifts the midline by at most 0.15 body units
    assert columns.mean() > 0.5 if side == "left" else columns.mean() < 0.5


@pytest.mark.parametrize("label", PLACED)
def test_a_finding_changes_the_film_where_its_mask_is(label):
    """Same body, same camera, with and without: the mask is brighter, the rest is the same."""
    shown = take(finding(label, side="right", severity=3))
    change = shown.image.astype(int) - take().image.astype(int)
    inside, outside = change[shown.masks[0]], change[~shown.masks[0]]
    assert inside.mean() > 15
    assert np.abs(outside).mean() < 0.15 * inside.mean()


def test_edema_whitens_both_lungs_most_at_the_hila():
    shown = take(finding("Edema", severity=3))
    change = shown.image.astype(int) - take().image.astype(int)
    assert [box[0] for box in shown.boxes[0]] == ["right", "left"]
    assert change[shown.masks[0]].mean() > 12
    assert change[shown.masks[0]].mean() > 3 * abs(change[~shown.masks[0]].mean())


def test_pneumothorax_darkens_its_rim():
    shown = take(finding("Pneumothorax", side="left", severity=3))
    change = shown.image.astype(int) - take().image.astype(int)
    assert change[shown.masks[0]].mean() < -3
    mask_rows = np.flatnonzero(shown.masks[0].any(axis=1))
    assert mask_rows[0] < 0.35 * shown.masks[0].shape[0]  # it reaches the apex


@pytest.mark.parametrize(
    "label", ["Consolidation", "Lung Lesion", "Pleural Effusion", "Atelectasis", "Pneumothorax"]
)
def test_a_graver_finding_is_larger(label):
    one = finding(label, side="left", severity=1)
    factor = {"Consolidation": 2.0, "Lung Lesion": 2.2}.get(label, 1.0)
    three = replace(one, severity=3, rx=one.rx * factor, ry=one.ry * factor)
    assert take(three).masks[0].sum() > 1.5 * take(one).masks[0].sum()


def test_zones_are_ordered_from_apex_to_base():
    centres = []
    for zone in ("upper", "mid", "lower"):
        ((_, _, y1, _, y2),) = take(finding("Consolidation", side="right", zone=zone, severity=2)).boxes[0]
        centres.append((y1 + y2) / 2)
    assert centres == sorted(centres) and centres[2] - centres[0] > 0.2


def test_a_large_heart_is_wider_than_a_normal_one():
    widths = []
    for severity in (1, 2, 3):
        ((_, x1, _, x2, _),) = take(finding("Cardiomegaly", severity=severity)).boxes[0]
        widths.append(x2 - x1)
    assert widths == sorted(widths) and widths[2] > 1.1 * widths[0]


@pytest.mark.parametrize("kind", DEVICES)
def test_devices_are_bright_lines(kind):
    shown = take(finding("Support Devices", side="left", kind=kind))
    change = shown.image.astype(int) - take().image.astype(int)
    assert change[shown.masks[0]].mean() > 30
    assert shown.masks[0].mean() < 0.1


def test_a_pneumonia_is_its_consolidation_drawn_once():
    one = finding("Consolidation", side="right", severity=2)
    both = take(one, replace(one, label="Pneumonia"))
    assert both.boxes[0] == both.boxes[1]
    assert np.array_equal(both.image, take(one).image)


def test_the_rng_frames_but_the_patient_stays():
    consolidation = finding("Consolidation", side="left", severity=3)
    first, again, other = take(consolidation), take(consolidation), take(consolidation, seed=1)
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("name", STYLES)
def test_every_style_gives_a_film_with_contrast(name):
    shown = draw(study(), "AP", STYLES[name], 128, np.random.default_rng(2))
    assert shown.image.dtype == np.uint8 and max(shown.image.shape) == 128
    assert shown.image.std() > 25
    low, high = STYLES[name].aspect
    assert low - 0.02 <= shown.image.shape[0] / shown.image.shape[1] <= high + 0.02


def test_lateral_looks_different():
    side = draw_lateral(study(), FLAT, 128, np.random.default_rng(2))
    front = draw(study(), "PA", FLAT, 128, np.random.default_rng(2)).image
    assert side.shape == front.shape
    assert np.corrcoef(side.ravel(), front.ravel())[0, 1] < 0.8


def test_objects_are_where_they_are_annotated():
    items = (
        ForeignObject(0, ((-0.5, -0.2), (-0.4, 0.0)), 1.0),
        ForeignObject(1, ((0.3, 0.1), (0.45, 0.25)), 1.0),
        ForeignObject(2, ((0.0, -0.6), (0.15, -0.5), (0.05, -0.4)), 1.0),
    )
    shown = draw(study(), "PA", FLAT, 160, np.random.default_rng(0), items)
    change = shown.image.astype(int) - take().image.astype(int)
    assert [shape for shape, _ in shown.objects] == [0, 1, 2]
    for shape, points in shown.objects:
        assert len(points) == (3 if shape == 2 else 2)
        (x1, y1), (x2, y2) = np.min(points, axis=0), np.max(points, axis=0)
        assert change[y1 : y2 + 1, x1 : x2 + 1].mean() > 20
        change[y1 : y2 + 1, x1 : x2 + 1] = 0
    assert np.abs(change).max() == 0  # nothing is drawn outside the annotated boxes


def test_objects_off_the_film_are_not_annotated():
    away = ForeignObject(1, ((3.0, 3.0), (3.1, 3.1)), 1.0)
    assert draw(study(), "PA", FLAT, 160, np.random.default_rng(0), (away,)).objects == []
    assert len(make_objects(np.random.default_rng(0), 4)) == 4
