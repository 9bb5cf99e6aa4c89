from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from cmcgns.randomness import numpy_rng
from cmcgns.synthetic import phrases
from cmcgns.synthetic.disease import make_finding
from cmcgns.synthetic.report_text import (
    CUSTOM_RANGE,
    TITLE,
    UNWRITTEN,
    VARIANTS,
    choose_variant,
    write_report,
    written,
)
from cmcgns.synthetic.reporter import Statement, labeler, report_study
from cmcgns.synthetic.terms import ZONE_HEIGHT
from cmcgns.synthetic.world import labels_of, make_population

HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s", re.DOTALL)  # spec/data.md 1d
STUDIES = make_population("mimic", 250, seed=2)


def reported(study, **options):
    return report_study(study, numpy_rng(0, "report", study.study_id), **options)


def text_of(variant, study=STUDIES[0], seed=0):
    rng = np.random.default_rng(seed)
    said = report_study(study, rng)
    return write_report(study, "PA", said, variant, rng), said


def test_every_finding_is_stated_when_nothing_is_omitted():
    for study in STUDIES:
        stated = {n for s in reported(study, omission=0.0) if s.section == "findings" for n in s.findings}
        assert stated == set(range(len(study.findings)))


def test_omissions_leave_findings_out():
    total = sum(len(s.findings) for s in STUDIES)
    said = sum(
        s.section == "findings" and bool(s.findings)
        for study in STUDIES
        for s in reported(study, omission=0.3)
    )
    assert 0.6 < said / total < 0.8


def test_sentences_agree_with_the_truth():
    """The side, the zone and the presence in the words are those of the finding; nothing true is denied."""
    for study in STUDIES:
        truth = labels_of(study.findings)
        for statement in reported(study):
            if statement.state == "negative":
                assert not any(truth[label] for label in statement.labels)
            for number in statement.findings:
                _agrees(statement, study.findings[number])


def _agrees(statement: Statement, finding) -> None:
    words = statement.sentence.lower()
    assert statement.labels == (finding.label,)
    for side in {"left", "right"} - {finding.side}:
        assert not re.search(rf"\b{side}\b", words), statement.sentence
    for zone in set(ZONE_HEIGHT) - {finding.zone, "whole"}:
        for name in phrases.ZONES[zone]:
            assert name not in words, statement.sentence
    sizes = phrases.SIZES[phrases.SIZE_KIND.get(finding.label, "process")]
    for severity in {1, 2, 3} - {finding.severity}:
        others = set(sizes[severity - 1]) - set(sizes[finding.severity - 1])
        stated = [w for w in others if re.search(rf"(?<!very ){w}(?!-)\b", words)]
        own = [w for w in sizes[finding.severity - 1] if w in words]
        assert not stated or own, statement.sentence


def test_articles_and_plurals():
    for study in STUDIES:
        for statement in reported(study):
            words = statement.sentence
            assert words[0].isupper() and words.endswith(".") and ".." not in words
            assert "{" not in words and "  " not in words
            assert not re.search(r"\b[Aa] (extensive|opacity|enteric|area of)\b(?<!area of)", words), words
            if "bilateral" in words:
                assert not re.search(r"\ba\b", words), words
                assert "effusion " not in words.replace(".", " "), words


def test_comparison_only_with_a_previous_film():
    for study in STUDIES:
        if study.before is None:
            said = " ".join(s.sentence for s in reported(study))
            assert not re.search(r"since|compared to ___|similar to prior|unchanged|improved from", said)


def test_same_film_many_words():
    """The same finding is said in many ways."""
    study = replace(
        STUDIES[0], findings=(make_finding("Pleural Effusion", np.random.default_rng(0), side="left"),)
    )
    texts = {
        next(s.sentence for s in report_study(study, np.random.default_rng(i), omission=0.0) if s.findings)
        for i in range(60)
    }
    assert len(texts) >= 12


def statement(state, *labels):
    return Statement("findings", state, labels, (), "x.")


def test_labeler_positive_beats_doubt_beats_denial():
    said = [
        statement("negative", "Edema"),
        statement("uncertain", "Edema"),
        statement("positive", "Pneumothorax"),
    ]
    labels = labeler([*said, statement("negative", "Pneumothorax")], np.random.default_rng(0), error=0.0)
    assert labels["Edema"] == -1.0 and labels["Pneumothorax"] == 1.0
    assert labels["Fracture"] is None and labels["No Finding"] is None


def test_labeler_no_finding():
    said = [statement("negative", "Edema"), statement("positive", "Support Devices")]
    labels = labeler(said, np.random.default_rng(0), error=0.0)
    assert labels["No Finding"] == 1.0 and labels["Edema"] == 0.0 and labels["Support Devices"] == 1.0


@pytest.mark.parametrize("variant", [*VARIANTS, "custom range", "custom section"])
def test_raw_layout(variant):
    for seed, study in enumerate(STUDIES[:12]):
        text, said = text_of(variant, study, seed)
        lines = text.split("\n")
        assert lines[0] == TITLE and text.endswith("\n") and "\n\n" not in text
        assert all(line.startswith(" ") for line in lines[:-1])
        assert max(map(len, lines)) <= 78
        flat = " ".join(text.split())
        for one in written(said, variant):
            words = one.sentence.replace(".", "")
            assert words in flat.replace(".", "") or variant == "short"


def headers(text):
    return [match.group(1) for match in HEADER.finditer(text)]


def test_headers_of_the_variants():
    found = {variant: headers(text_of(variant)[0]) for variant in VARIANTS}
    assert found["standard"][-2:] == ["FINDINGS", "IMPRESSION"]
    assert found["title header"][0] == "CHEST, PA LATERAL"
    assert found["findings only"][-1] == "FINDINGS" and "IMPRESSION" not in found["findings only"]
    assert found["impression only"][-1] == "IMPRESSION" and "FINDINGS" not in found["impression only"]
    assert found["findings and impression"][-1] == "FINDINGS AND IMPRESSION"
    assert found["conclusion"][-1] == "CONCLUSION"
    assert found["misspelled"][-2:] == ["FINDNGS", "IMPRESSON"]
    assert found["no header"] == []
    assert not {"FINDINGS", "IMPRESSION"} & set(found["last paragraph"]) and found["last paragraph"]
    assert found["duplicated findings"].count("FINDINGS") == 2
    assert found["addendum"][-1] == "ADDENDUM"
    assert set(UNWRITTEN) <= set(VARIANTS)


def test_empty_findings_hold_nothing():
    text, _ = text_of("empty findings")
    between = text.split("FINDINGS:")[1].split("IMPRESSION:")[0]
    assert not between.strip()


def test_short_report_has_one_word():
    text, _ = text_of("short")
    assert text.split("IMPRESSION:")[1].strip() == "Normal."


def test_custom_range_holds_the_impression():
    text, said = text_of("custom range", STUDIES[3])
    _, start, end = CUSTOM_RANGE
    first = next(s.sentence for s in said if s.section == "impression")
    assert len(text) >= end and headers(text) == []
    assert first[:30].rstrip(".") in " ".join(text[start:end].split())


def test_variants_are_drawn_by_their_shares():
    rng = np.random.default_rng(0)
    drawn = [choose_variant(rng) for _ in range(2000)]
    assert drawn.count("standard") / 2000 == pytest.approx(0.62, abs=0.04)
    assert set(drawn) == set(VARIANTS)
