"""What is wrong with a patient: findings that come together as they do in a clinic, and change from visit to visit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from cmcgns.synthetic.terms import ZONE_HEIGHT, Side, Zone


@dataclass(frozen=True)
class Finding:
    """One thing to be seen. The ellipse is relative to its lung.

    `x` runs from the mediastinum (0) to the chest wall (1), `y` from the apex (0) to the diaphragm (1); `rx`, `ry` are
    half axes in body units (half the film's width is 1). `seed` fixes the ragged outline, so that two films of a study
    show the same thing.
    """

    label: str
    side: Side
    zone: Zone
    severity: int  # 1 small .. 3 large
    x: float
    y: float
    rx: float
    ry: float
    kind: str  # which device, or "covid"; else empty
    seed: int


# Chance of a label in a sick patient outside any syndrome.
BASE_RATES = {
    "Enlarged Cardiomediastinum": 0.09,
    "Cardiomegaly": 0.13,
    "Lung Opacity": 0.07,
    "Lung Lesion": 0.12,
    "Edema": 0.07,
    "Consolidation": 0.12,
    "Atelectasis": 0.15,
    "Pneumothorax": 0.08,
    "Pleural Effusion": 0.10,
    "Pleural Other": 0.07,
    "Fracture": 0.08,
    "Support Devices": 0.15,
}
# Findings that come together: (chance of the syndrome in a sick patient, chance of each label given it).
SYNDROMES = {
    "heart failure": (
        0.28,
        {"Cardiomegaly": 0.75, "Edema": 0.78, "Pleural Effusion": 0.55, "Support Devices": 0.3},
    ),
    "infection": (0.30, {"Consolidation": 0.85, "Pleural Effusion": 0.25, "Atelectasis": 0.10}),
    "intensive care": (
        0.22,
        {"Atelectasis": 0.70, "Pleural Effusion": 0.35, "Support Devices": 0.9, "Pneumothorax": 0.18},
    ),
    "trauma": (0.07, {"Fracture": 0.8, "Pneumothorax": 0.45, "Pleural Effusion": 0.2}),
}
PNEUMONIA_GIVEN_CONSOLIDATION = 0.6
DEVICES = ("endotracheal tube", "central line", "pacemaker", "chest tube", "enteric tube", "port")
SIDES_OF = {"Cardiomegaly": "central", "Enlarged Cardiomediastinum": "central", "Edema": "bilateral"}
# Half axes in body units at severity 1, 2, 3 of findings that are ellipses.
SIZES = {
    "Consolidation": (0.11, 0.16, 0.22),
    "Lung Opacity": (0.10, 0.13, 0.17),
    "Lung Lesion": (0.045, 0.07, 0.10),
}
ZONES_OF: dict[str, tuple[tuple[Zone, ...], tuple[float, ...]]] = {
    "Consolidation": (("upper", "mid", "lower"), (0.25, 0.25, 0.5)),
    "Lung Opacity": (("upper", "mid", "lower"), (0.34, 0.33, 0.33)),
    "Lung Lesion": (("upper", "mid", "lower"), (0.45, 0.3, 0.25)),
    "Atelectasis": (("base",), (1.0,)),
    "Pleural Effusion": (("base",), (1.0,)),
    "Pneumothorax": (("apex",), (1.0,)),
    "Pleural Other": (("apex", "mid", "lower"), (0.3, 0.3, 0.4)),
    "Fracture": (("upper", "mid", "lower"), (0.3, 0.4, 0.3)),
}


def sickness(findings: tuple[Finding, ...]) -> float:
    """How ill a patient looks: the sum of severities, infections and devices counted more."""
    extra = {"Pneumonia": 1.0, "Support Devices": 1.2, "Edema": 1.2}
    return sum(f.severity * extra.get(f.label, 1.0) for f in findings)


def make_finding(
    label: str,
    rng: np.random.Generator,
    *,
    side: Side | None = None,
    zone: Zone | None = None,
    severity: int | None = None,
    kind: str = "",
) -> Finding:
    """Draw one finding of this label; what is given is kept."""
    severity = severity or int(rng.choice([1, 2, 3], p=[0.28, 0.42, 0.30]))
    chosen_side = side or SIDES_OF.get(label) or _draw_side(label, severity, rng)
    names, chances = ZONES_OF.get(label, (("whole",), (1.0,)))
    chosen_zone = zone or names[int(rng.choice(len(names), p=chances))]
    half = SIZES.get(label, (0.1, 0.14, 0.2))[severity - 1] * rng.uniform(0.85, 1.15)
    aspect = rng.uniform(0.9, 1.1) if label == "Lung Lesion" else rng.uniform(0.75, 1.3)
    return Finding(
        label=label,
        side=chosen_side,
        zone=chosen_zone,
        severity=severity,
        x=float(
            rng.uniform(0.55, 0.8) if chosen_zone == "lower" else rng.uniform(0.35, 0.75)
        ),  # beside the heart
        y=float(ZONE_HEIGHT[chosen_zone] + rng.uniform(-0.06, 0.06)),
        rx=float(half * aspect**0.5),
        ry=float(half / aspect**0.5),
        kind=kind,
        seed=int(rng.integers(2**31)),
    )


def _draw_side(label: str, severity: int, rng: np.random.Generator) -> Side:
    both = {"Pleural Effusion": 0.35, "Atelectasis": 0.35, "Pneumothorax": 0.04}.get(label, 0.0)
    if rng.random() < both:
        return "bilateral"
    return "right" if rng.random() < 0.54 else "left"


def expand(label: str, rng: np.random.Generator, foci: int | None = None) -> list[Finding]:
    """All rows of one label in one study: several foci of consolidation, several devices, else one row.

    A consolidation that is called pneumonia gets a second row of the same place: the report uses both words.
    """
    if label == "Support Devices":
        kinds = rng.choice(DEVICES, size=1 + int(rng.random() < 0.4), replace=False)
        return [make_finding(label, rng, kind=str(kind)) for kind in kinds]
    if label != "Consolidation":
        return [make_finding(label, rng)]
    foci = foci or 1 + int(rng.choice(4, p=[0.62, 0.28, 0.07, 0.03]))
    places = [(side, zone) for side in ("right", "left") for zone in ZONES_OF["Consolidation"][0]]
    weights = np.array([0.25, 0.25, 0.5] * 2) / 2
    chosen = rng.choice(len(places), size=foci, replace=False, p=weights)
    rows = [make_finding(label, rng, side=places[i][0], zone=places[i][1]) for i in chosen]
    if rng.random() < PNEUMONIA_GIVEN_CONSOLIDATION:
        rows += [replace(row, label="Pneumonia") for row in rows]
    return rows


def draw_labels(rng: np.random.Generator, age: int, rates: Mapping[str, float]) -> list[str]:
    """Which labels a sick patient has, in `BASE_RATES` order; never empty."""
    chances = {**BASE_RATES, **rates}
    absent = {label: 1 - chance for label, chance in chances.items()}
    for name, (chance, given) in SYNDROMES.items():
        likely = chance * (0.6 + age / 150) if name == "heart failure" else chance
        if rng.random() < likely:
            for label, p in given.items():
                absent[label] *= 1 - p if rates.get(label, 1) > 0 else 1
    present = [label for label in chances if rng.random() > absent[label]]
    if not [label for label in present if label != "Support Devices"]:
        present.append(str(rng.choice(["Lung Lesion", "Atelectasis", "Cardiomegaly", "Pleural Effusion"])))
    return present


def first_findings(
    rng: np.random.Generator, age: int, rates: Mapping[str, float], healthy: float
) -> tuple[Finding, ...]:
    """Findings of a first visit."""
    if rng.random() < healthy:
        return tuple(expand("Support Devices", rng)) if rng.random() < 0.08 else ()
    return tuple(f for label in draw_labels(rng, age, rates) for f in expand(label, rng))


def later_findings(
    rng: np.random.Generator,
    before: tuple[Finding, ...],
    age: int,
    rates: Mapping[str, float],
    healthy: float,
) -> tuple[Finding, ...]:
    """Findings of the next visit: about 60 % of the old ones stay, a little better or worse, and new ones come."""
    changed: dict[int, Finding | None] = {}  # by seed, so that a pneumonia follows its consolidation
    kept = []
    for finding in before:
        if finding.seed not in changed:
            changed[finding.seed] = _progress(finding, rng) if rng.random() < 0.6 else None
        now = changed[finding.seed]
        if now is not None:
            kept.append(replace(now, label=finding.label))
    had = {f.label for f in kept}
    new = first_findings(rng, age, rates, max(healthy, 0.65 if had else healthy))
    had |= {"Consolidation", "Pneumonia"} if had & {"Consolidation", "Pneumonia"} else set()
    return tuple(kept) + tuple(f for f in new if f.label not in had)


def _progress(finding: Finding, rng: np.random.Generator) -> Finding:
    severity = int(np.clip(finding.severity + rng.choice([-1, 0, 1], p=[0.3, 0.5, 0.2]), 1, 3))
    sizes = SIZES.get(finding.label, (0.1, 0.14, 0.2))
    scale = sizes[severity - 1] / sizes[finding.severity - 1]
    return replace(finding, severity=severity, rx=finding.rx * scale, ry=finding.ry * scale)
