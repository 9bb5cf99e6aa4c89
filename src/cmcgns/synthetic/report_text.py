"""Statements -> the text of a report file, in MIMIC-CXR's raw layout with its many variants (spec/data.md 1d)."""

import textwrap
from collections.abc import Callable

import numpy as np

from cmcgns.synthetic import phrases
from cmcgns.synthetic.reporter import Statement
from cmcgns.synthetic.world import Study

Section = tuple[str, str]  # header ("" for none), body
TITLE = " " * 33 + "FINAL REPORT"

# How often each kind of report is written; `standard` takes the rest.
VARIANTS = {
    "standard": 0.62,
    "title header": 0.05,
    "findings only": 0.07,
    "impression only": 0.08,
    "findings and impression": 0.04,
    "conclusion": 0.04,
    "misspelled": 0.01,
    "no header": 0.02,
    "last paragraph": 0.025,
    "duplicated findings": 0.01,
    "empty findings": 0.015,
    "addendum": 0.015,
    "short": 0.005,
}
# Studies whose text the published parser cuts by number or by name (spec/data.md 1d): one of each kind is in the world.
CUSTOM_RANGE = ("s50525523", 201, 349)
CUSTOM_EMPTY = "s58235663"
CUSTOM_SECTION = ("s59363654", "EXAMINATION")


# Which statements a variant does not write.
UNWRITTEN = {
    "findings only": {"impression"},
    "impression only": {"findings"},
    "empty findings": {"findings"},
    "short": {"findings", "impression"},
}


def written(statements: list[Statement], variant: str) -> list[Statement]:
    """The statements that a report of this variant holds."""
    return [s for s in statements if s.section not in UNWRITTEN.get(variant, ())]


def wrap(text: str) -> str:
    """Lines of at most 78 characters, each after one blank."""
    return "\n".join(" " + line for line in textwrap.wrap(text, 77, break_on_hyphens=False))


def paragraph(header: str, body: str, inline: bool) -> str:
    """A headed paragraph: the text on the header's line, or after an empty one."""
    if not header:
        return wrap(body)
    if not body:
        return f" {header}: \n "
    return wrap(f"{header}:  {body}") if inline else f" {header}: \n \n{wrap(body)}"


def assemble(sections: list[Section], rng: np.random.Generator, *, title: bool = True) -> str:
    """Join sections with blank lines; results start on their own line, the rest on the header's."""
    parts = [TITLE] if title else []
    for header, body in sections:
        inline = not header.startswith(("FIND", "IMP", "CONC")) or rng.random() < 0.4
        parts.append(paragraph(header, body, inline))
    return "\n \n".join(parts).replace(f"{TITLE}\n \n", f"{TITLE}\n") + "\n"


def choose_variant(rng: np.random.Generator) -> str:
    """Draw a kind of report."""
    names = list(VARIANTS)
    weights = np.array(list(VARIANTS.values()))
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _front(study: Study, view: str, rng: np.random.Generator) -> list[Section]:
    person = {"M": "man", "F": "woman"}[study.patient.sex]
    exam = {"AP": "CHEST (PORTABLE AP)", "PA": "CHEST (PA AND LAT)"}[view]
    reason = phrases.INDICATIONS[int(rng.integers(len(phrases.INDICATIONS)))].format(person=person)
    header = ["INDICATION", "REASON FOR EXAM", "HISTORY", "CLINICAL INFORMATION"][
        int(rng.choice(4, p=[0.6, 0.1, 0.2, 0.1]))
    ]
    sections = [("EXAMINATION", exam)] if rng.random() < 0.7 else []
    sections.append((header, reason))
    if rng.random() < 0.5:
        technique = {"AP": "Portable AP view of the chest.", "PA": "PA and lateral views of the chest."}[view]
        sections.append(("TECHNIQUE", technique))
    prior = (
        "None."
        if study.before is None
        else ["___.", "Chest radiograph from ___.", "Chest x-ray ___ at ___."][int(rng.integers(3))]
    )
    return [*sections, ("COMPARISON", prior)] if rng.random() < 0.85 else sections


def _numbered(statements: list[Statement], rng: np.random.Generator) -> str:
    sentences = [s.sentence for s in statements]
    if len(sentences) > 1 and rng.random() < 0.5:
        return " ".join(f"{n}.  {text}" for n, text in enumerate(sentences, 1))
    return " ".join(sentences)


def write_report(
    study: Study, view: str, statements: list[Statement], variant: str, rng: np.random.Generator
) -> str:
    """The text of one report file.

    Args:
        view: AP or PA, for the words about technique.
        variant: a key of `VARIANTS`, or `custom range` / `custom section` for the studies that the parser treats by hand.
    """
    findings = " ".join(s.sentence for s in statements if s.section == "findings")
    impression = _numbered([s for s in statements if s.section == "impression"], rng)
    front = _front(study, view, rng)
    if variant == "custom range":
        return _custom_range(front, impression, findings)
    kinds: dict[str, Callable[[], str]] = {
        "standard": lambda: assemble([*front, ("FINDINGS", findings), ("IMPRESSION", impression)], rng),
        "title header": lambda: assemble(
            [("CHEST, PA LATERAL", ""), *front, ("FINDINGS", findings), ("IMPRESSION", impression)], rng
        ),
        "findings only": lambda: assemble([*front, ("FINDINGS", findings)], rng),
        "impression only": lambda: assemble([*front, ("IMPRESSION", impression)], rng),
        "findings and impression": lambda: assemble(
            [*front, ("FINDINGS AND IMPRESSION", f"{findings} {impression}")], rng
        ),
        "conclusion": lambda: assemble([*front, ("FINDINGS", findings), ("CONCLUSION", impression)], rng),
        "misspelled": lambda: assemble([*front, ("FINDNGS", findings), ("IMPRESSON", impression)], rng),
        "no header": lambda: assemble([("", findings), ("", impression)], rng),
        "last paragraph": lambda: assemble([*front, ("", f"{findings} {impression}")], rng),
        "duplicated findings": lambda: assemble(
            [*front, ("FINDINGS", "As below."), ("FINDINGS", findings), ("IMPRESSION", impression)], rng
        ),
        "empty findings": lambda: assemble([*front, ("FINDINGS", ""), ("IMPRESSION", impression)], rng),
        "addendum": lambda: assemble(
            [
                *front,
                ("FINDINGS", findings),
                ("IMPRESSION", impression),
                ("ADDENDUM", phrases.ADDENDA[int(rng.integers(len(phrases.ADDENDA)))]),
            ],
            rng,
        ),
        "short": lambda: assemble([("IMPRESSION", "Normal.")], rng),
        "custom section": lambda: assemble(
            [*front[1:], (CUSTOM_SECTION[1], f"{findings} {impression}")], rng
        ),
    }
    return kinds[variant]()


def _custom_range(front: list[Section], impression: str, findings: str) -> str:
    """A report without headers whose impression fills the character range that the parser cuts out."""
    _, start, end = CUSTOM_RANGE
    head = f"{TITLE}\n{wrap(' '.join(body for _, body in front)[:100])}\n"
    text = head + _blank(start - len(head)) + wrap(f"{impression} {findings}") + "\n"
    return text + _blank(max(end - len(text), 0) + 2)


def _blank(length: int) -> str:
    """Empty report lines (one blank each) of this many characters in all; the first is longer when it is odd."""
    return (" " * (length % 2) + " \n" * (length // 2)) if length > 1 else ""
