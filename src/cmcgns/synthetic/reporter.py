"""What the reporter says about a study: sentences, and which label each one states, doubts or denies."""

import re
from dataclasses import dataclass, replace

import numpy as np

from cmcgns.synthetic import phrases
from cmcgns.synthetic.disease import Finding
from cmcgns.synthetic.terms import LABELS
from cmcgns.synthetic.world import Study, labels_of

HEDGE = (0.30, 0.12, 0.03)  # chance of doubt at severity 1, 2, 3


@dataclass(frozen=True)
class Statement:
    """One sentence about one or more labels; `findings` are positions in `study.findings`."""

    section: str  # findings or impression
    state: str  # positive, uncertain, negative or none
    labels: tuple[str, ...]
    findings: tuple[int, ...]
    sentence: str


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _sentence(text: str) -> str:
    text = text.strip()
    return text[0].upper() + text[1:] + "."


def _fill(template: str, finding: Finding, rng: np.random.Generator) -> str:
    kind = phrases.SIZE_KIND.get(finding.label, "process")
    size = _pick(rng, phrases.SIZES[kind][finding.severity - 1])
    text = template.format(size=size, side=finding.side, zone=_pick(rng, phrases.ZONES[finding.zone]))
    if finding.side == "bilateral":
        return _plural(text)
    return text.replace("a extensive", "an extensive")


def _plural(text: str) -> str:
    """Put a sentence about both sides into the plural."""
    text = re.sub(r"\ban? ", "", text.replace("there is a ", "there are "))
    for word, plural in phrases.PLURALS.items():
        text = re.sub(rf"\b{word}\b", plural, text)
    return re.sub(r"\b(effusions|pneumothoraces) is\b", r"\1 are", text)


def _change(study: Study, finding: Finding, rng: np.random.Generator) -> str:
    """A clause about the previous film, or nothing."""
    if study.before is None or rng.random() > 0.45:
        return ""
    old = [f for f in study.before if f.seed == finding.seed]
    if not old:
        return _pick(rng, phrases.CHANGES["new"])
    difference = finding.severity - old[0].severity
    return _pick(rng, phrases.CHANGES[("better", "same", "worse")[int(np.sign(difference)) + 1]])


def _state_findings(study: Study, rng: np.random.Generator, omission: float) -> list[Statement]:
    said: list[Statement] = []
    omitted = {f.seed for f in study.findings if rng.random() < omission}
    for number, finding in enumerate(study.findings):
        if finding.seed in omitted:
            continue
        if finding.label == "Support Devices":
            text, state = _pick(rng, phrases.DEVICES[finding.kind]).format(side=finding.side), "positive"
        else:
            doubt = rng.random() < HEDGE[finding.severity - 1]
            state = "uncertain" if doubt else "positive"
            table = phrases.UNCERTAIN if doubt else phrases.POSITIVE
            text = _fill(_pick(rng, table[finding.label]), finding, rng)
            if finding.label != "Pneumonia":
                text += _change(study, finding, rng)
        said.append(Statement("findings", state, (finding.label,), (number,), _sentence(text)))
    return said


def _deny(study: Study, rng: np.random.Generator) -> list[Statement]:
    """Denials of what is truly absent, none twice."""
    truth, said, denied = labels_of(study.findings), [], set()
    order = rng.permutation(len(phrases.NEGATIVE))
    entries = list(phrases.NEGATIVE.items())
    for index in order:
        labels, options = entries[index]
        likely = 0.75 if {"Pleural Effusion", "Pneumothorax", "Cardiomegaly"} & set(labels) else 0.35
        absent = all(not truth[label] for label in labels)
        clear = "Lung Opacity" not in labels or truth["No Finding"]
        if absent and clear and not denied & set(labels) and rng.random() < likely:
            denied |= set(labels)
            said.append(Statement("findings", "negative", labels, (), _sentence(_pick(rng, options))))
    return said


def _impress(
    study: Study, said: list[Statement], denied: list[Statement], rng: np.random.Generator
) -> list[Statement]:
    """The impression: what the findings section stated, shorter, the gravest first; at most five."""
    found = [s for s in said if s.findings and s.labels != ("Support Devices",)]
    found.sort(key=lambda s: -study.findings[s.findings[0]].severity)
    seeds: set[int] = set()
    summary = []
    for statement in sorted(found, key=lambda s: s.labels != ("Pneumonia",)):
        finding = study.findings[statement.findings[0]]
        if finding.seed in seeds:  # the consolidation of a pneumonia already named
            continue
        seeds.add(finding.seed)
        table = phrases.SHORT if statement.state == "positive" else phrases.UNCERTAIN
        text = _sentence(_fill(_pick(rng, table[finding.label]), finding, rng))
        summary.append(Statement("impression", statement.state, statement.labels, statement.findings, text))
    if not summary:
        negative = ("No Finding",) if labels_of(study.findings)["No Finding"] else ()
        return [
            Statement("impression", "none", negative, (), _sentence(_pick(rng, phrases.NORMAL_IMPRESSION)))
        ]
    return summary[:5] + [replace(s, section="impression") for s in denied if rng.random() < 0.15]


def report_study(study: Study, rng: np.random.Generator, *, omission: float = 0.03) -> list[Statement]:
    """All statements about a study, in the order of the report.

    Args:
        omission: chance that a finding is not mentioned at all: the reporter's error.
    """
    said = _state_findings(study, rng, omission)
    denied = _deny(study, rng)
    fillers = [
        Statement("findings", "none", (), (), _sentence(text))
        for text in rng.permutation(np.array(phrases.FILLERS))[: int(rng.integers(0, 3))]
    ]
    body = denied + fillers
    rng.shuffle(body)
    cut = int(rng.integers(len(body) + 1))
    return body[:cut] + said + body[cut:] + _impress(study, said, denied, rng)


def labeler(
    statements: list[Statement], rng: np.random.Generator, *, error: float = 0.02
) -> dict[str, float | None]:
    """The 14 labels as an automatic labeler reads them: 1, 0, -1 (doubt), None (blank: not mentioned).

    Positive beats uncertain beats negative. With chance `error` a mention is read wrongly: doubt for fact, or missed.
    """
    value = {"negative": 0.0, "uncertain": -1.0, "positive": 1.0}
    rank = {None: 0, 0.0: 1, -1.0: 2, 1.0: 3}
    labels: dict[str, float | None] = dict.fromkeys(LABELS)
    for statement in statements:
        if statement.state not in value:
            continue
        for label in statement.labels:
            if rank[value[statement.state]] > rank[labels[label]]:
                labels[label] = value[statement.state]
    for label, read in labels.items():
        if read is not None and rng.random() < error:
            labels[label] = None if rng.random() < 0.5 else -1.0
    others = [read for label, read in labels.items() if label not in ("No Finding", "Support Devices")]
    labels["No Finding"] = None if any(read in (1.0, -1.0) for read in others) else 1.0
    return labels
