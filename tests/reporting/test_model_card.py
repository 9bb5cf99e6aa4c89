"""What the card of an exported model says of data, terms, settings and scores."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import yaml

from cmcgns.pipeline.plan import Plan
from cmcgns.reporting.model_card import write_card

ROOT = Path(__file__).parents[2]
HEAD = "table,dataset,task,metric,method,fraction,n_runs,mean,std,paper_mean,paper_std\n"


@pytest.fixture
def card(tmp_path, monkeypatch):
    """The card of CM-CGNS in a profile with the given tables."""
    monkeypatch.chdir(tmp_path)

    def write(profile: str, tables: dict[str, str]) -> str:
        plan = Plan.load(profile, ROOT / "params.yaml")
        trunk = Path(plan.paths.trunk("cm_cgns"))
        trunk.parent.mkdir(parents=True)
        trunk.write_bytes(b"weights")
        for name, rows in tables.items():
            file = Path(plan.paths.table(name, "csv"))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(HEAD + rows)
        write_card(plan, "cm_cgns", "timm", "model = 1\n", tmp_path)
        return (tmp_path / "README.md").read_text()

    return write


def test_the_scores_are_the_method_s_own_rows(card):
    text = card(
        "paper",
        {
            "1": "I,CheXpert,classification,AUC,CM-CGNS,1%,5,86.00,0.25,87,1\n"
            "I,CheXpert,classification,AUC,PRIOR,1%,5,80.00,0.30,81,1\n"
            "I,CheXpert,classification,AUC,CM-CGNS,10%,0,,,88,1\n",
            "4": "IV,CheXpert,classification,AUC,Baseline,1%,5,70.00,0.10,,\n"
            "IV,CheXpert,classification,AUC,Baseline+CM-CGNS+CM-MIR,1%,5,86.00,0.25,,\n",
            "retrieval": "retrieval,,retrieval,image to report R@1,CM-CGNS,,5,6.25,1.65,,\n",
        },
    )
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[2:] == [
        "| I | CheXpert | AUC | 1% | 86.00 | 0.25 | 5 |",
        "| IV | CheXpert | AUC | 1% | 86.00 | 0.25 | 5 |",
        "| retrieval |  | image to report R@1 |  | 6.25 | 1.65 | 5 |",
    ]


def test_terms_are_those_of_the_data(card):
    text = card("real", {})
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "other" and front["library_name"] == "timm"
    assert "PhysioNet Credentialed Health Data License" in text and "No table" in text
    assert hashlib.sha256(b"weights").hexdigest() in text


def test_a_synthetic_world_s_card_does_not_speak_of_patients_data(card):
    text = card("demo", {})
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "apache-2.0"
    assert "PhysioNet" not in text and "no patient is in them" in text


@pytest.mark.parametrize(
    ("profile", "input_"),
    [
        ("demo", ("(B, 3, 64, 64)", "scaled to 73 px", "middle 64 x 64 px")),
        ("paper", ("(B, 3, 224, 224)", "scaled to 256 px", "middle 224 x 224 px")),
    ],
)
def test_the_input_is_the_profile_s(card, profile, input_):
    text = card(profile, {})
    assert all(words in text for words in input_)


def test_the_settings_are_those_of_every_phase(card):
    text = card("paper", {})
    phases = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.S).group(1))
    assert list(phases) == ["stage1", "stage2"]
    assert phases["stage2"]["training"]["epochs"] == 20 and phases["stage1"]["training"]["lr"] == 1e-5
    assert "`imagenet1k_v2`" in text and "`emilyalsentzer/Bio_ClinicalBERT`" in text
