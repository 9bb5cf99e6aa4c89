"""Tables of retrieval, zero-shot classification and grounding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cmcgns.errors import InputError
from cmcgns.reporting.alignment_tables import write_alignment_table


def write(path: Path, kind: str, seeds: dict, chance: dict | None = None, reason: str = "") -> Path:
    document = {
        "kind": kind,
        "method": path.stem,
        "n": {"pairs": 40, "pairs in a gallery": 20} if seeds else {},
    }
    document |= {"chance": chance or {}, "seeds": seeds, "reason": reason}
    path.write_text(json.dumps(document, sort_keys=True))
    return path


@pytest.fixture
def tables(tmp_path):
    """Writes the table of the given files; returns the text of an output."""
    outputs = {name: tmp_path / name for name in ("csv", "details", "md", "tex")}

    def read(kind: str, metrics: dict[str, Path]):
        write_alignment_table(name=kind, arms=list(metrics), metrics=list(metrics.values()), **outputs)
        return lambda name: outputs[name].read_text()

    return read


def test_scores_of_single_findings_are_in_the_details_alone(tables, tmp_path):
    seeds = {"0": {"pointing": 0.5, "pointing: Edema": 0.4, "pointing: Edema (other film)": None}}
    chance = {"uniform": {"pointing": 0.1, "pointing: Edema": 0.3}}
    text = tables("grounding", {"clip": write(tmp_path / "a.json", "grounding", seeds, chance)})
    assert "Edema" not in text("csv") + text("md") + text("tex") and "pointing" in text("csv")
    rows = [line.split(",")[3:8] for line in text("details").splitlines()[1:]]
    assert rows == [
        ["pointing: Edema", "CLIP", "", "1", "40.00"],
        ["pointing: Edema (other film)", "CLIP", "", "0", ""],
        ["pointing: Edema", "Chance (uniform)", "", "0", "30.00"],
    ]


def test_a_row_a_method_and_one_of_chance(tables, tmp_path):
    chance = {"random order": {"i R@5": 0.1, "i R@10": 0.2}}
    better = {"0": {"i R@5": 0.5, "i R@10": 0.6}, "1": {"i R@5": 0.7, "i R@10": 0.6}}
    worse = {"0": {"i R@5": 0.15, "i R@10": 0.65}, "1": {"i R@5": None, "i R@10": 0.65}}
    text = tables(
        "retrieval",
        {
            "clip": write(tmp_path / "a.json", "retrieval", worse, chance),
            "cm_cgns": write(tmp_path / "b.json", "retrieval", better, chance),
        },
    )
    assert text("md").splitlines() == [
        "| Method | i R@5 | i R@10 |",
        "|---|---|---|",
        "| CLIP | *15.00* | **65.00 ± 0.00** |",
        "| CM-CGNS | **60.00 ± 14.14** | *60.00 ± 0.00* |",
        "| Chance (random order) | 10.00 | 20.00 |",
        "",
        "40 pairs, 20 pairs in a gallery. Mean ± standard deviation over 2 draws of the evaluation sample from one pre-training.",
    ]
    assert "retrieval,,retrieval,i R@5,CM-CGNS,,2,60.00,14.14,," in text("csv").splitlines()
    assert "retrieval,,retrieval,i R@5,Chance (random order),,0,10.00,,," in text("csv").splitlines()
    assert r"Chance (random order) & 10.00 & 20.00 \\" in text("tex").splitlines()


def test_chance_is_never_marked_and_a_control_it_has_no_value_for_is_a_dash(tables, tmp_path):
    seeds = {"0": {"mIoU": 0.05, "pointing": 0.3, "pointing (exchanged maps)": 0.1}}
    chance = {"uniform": {"mIoU": 0.1, "pointing": 0.1}, "centre": {"mIoU": 0.4, "pointing": 0.4}}
    text = tables("grounding", {"cm_cgns": write(tmp_path / "a.json", "grounding", seeds, chance)})
    rows = text("md").splitlines()
    assert rows[2] == "| CM-CGNS | **5.00** | **30.00** | **10.00** |"
    assert rows[3] == "| Chance (centre) | 40.00 | 40.00 | – |"


def test_what_was_not_measured_says_why(tables, tmp_path):
    metrics = {"cm_cgns": write(tmp_path / "a.json", "grounding", {}, reason="nobody drew boxes")}
    text = tables("grounding", metrics)
    assert text("md") == "Not measured: nobody drew boxes.\n"
    assert text("tex") == "% not measured: nobody drew boxes\n"
    assert len(text("csv").splitlines()) == 1


def test_scores_of_another_kind_are_refused(tables, tmp_path):
    path = write(tmp_path / "a.json", "grounding", {"0": {"pointing": 1.0}})
    with pytest.raises(InputError, match=r"a\.json: these are scores of grounding"):
        tables("retrieval", {"cm_cgns": path})
