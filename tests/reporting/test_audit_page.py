"""The audit's page: verdicts by hand, nothing left out, nothing that tells a patient."""

from __future__ import annotations

import base64
import re

import numpy as np
import pandas as pd
import pytest

from cmcgns.audit.balance import targets
from cmcgns.audit.findings import Fact, Finding, hash_examples, to_document
from cmcgns.files import write_json
from cmcgns.parquet import write_parquet
from cmcgns.reporting.audit_page import (
    CHECKS,
    class_shares,
    group_overlap,
    nesting,
    verdict,
    with_reasons,
    worst_first,
    write_audit_page,
)

PATIENT, IMAGE = "patient-8841207", "film-5520913"
SPLITS = ["train"] * 6 + ["valid"] * 2 + ["test"] * 2


def finding(check="A2-group-overlap", severity="critical", source="siim", scheme="audited", **more):
    values = {"split_a": "train", "split_b": "test", "count": 1, "total": 2, "ids": (), "remedy": "mend it"}
    return Finding(check, source, scheme, severity, **(values | more))


def judged(*findings, accept=()):
    notes = [{"check": check, "source": source, "reason": reason} for check, source, reason in accept]
    return with_reasons([found.as_json() for found in findings], notes, "audited")


@pytest.mark.parametrize(
    ("findings", "accept", "drawn", "expected"),
    [
        ([], [], True, ("clean", "", [])),
        ([finding(severity="info")], [], True, ("clean", "", [])),
        ([finding(severity="warning")] * 2, [], True, ("warnings", "2 warnings", [])),
        ([finding(), finding(severity="warning")], [], True, ("critical", "1 critical, 1 warning", [])),
        ([finding()] * 3, [("A2-group-overlap", "siim", "why")], True, ("accepted", "3 accepted", ["why"])),
        (
            [finding(), finding("A3-mask-cut")],
            [("A2-group-overlap", "siim", "why")],
            True,
            ("critical", "1 critical, 1 accepted", ["why"]),
        ),
        ([finding()], [("A2-group-overlap", "rsna", "why")], True, ("critical", "1 critical", [])),
        ([finding(scheme="")], [("A2-group-overlap", "siim", "why")], True, ("accepted", "1 accepted", ["why"])),
        ([finding(scheme="paper")], [("A2-group-overlap", "siim", "why")], True, ("critical", "1 critical", [])),
        ([finding(severity="warning")], [], False, ("not drawn", "1 warning", [])),
        ([finding(scheme="")], [], False, ("critical", "1 critical", [])),
    ],
)  # fmt: skip
def test_the_verdict_is_the_worst_that_was_not_accepted(findings, accept, drawn, expected):
    assert verdict(judged(*findings, accept=accept), drawn=drawn) == expected


def test_the_worst_stands_first_and_what_was_accepted_after_it():
    found = [
        finding("A5-class-balance", "warning"),
        finding(scheme="paper", count=2),
        finding("A3-mask-cut", count=1),
        finding("A1-image-overlap", count=2),
        finding("A7-subsets", count=2),
    ]
    rows = worst_first(judged(*found, accept=[("A7-subsets", "siim", "why")]), ["audited", "paper"])
    order = ["A1-image-overlap", "A3-mask-cut", "A2-group-overlap", "A7-subsets", "A5-class-balance"]
    assert [row["check"] for row in rows] == order


def test_overlap_counts_the_images_of_the_column_whose_group_is_in_the_row():
    rows = pd.DataFrame(
        {
            "group_id": ["a", "a", "b", "c", "a", "d", "d"],
            "split": ["train", "train", "train", "train", "valid", "valid", "test"],
        }
    )
    assert group_overlap(rows).tolist() == [[4, 1, 0], [2, 2, 1], [0, 1, 1]]


def test_shares_are_percent_of_a_split_and_unknown_where_it_is_empty():
    index = pd.DataFrame({"image_id": list("abcd"), "target": [1, 0, 0, 1]})
    rows = pd.DataFrame({"image_id": list("abcd"), "split": ["train", "train", "train", "valid"]})
    shares = class_shares(rows, targets("rsna", index))
    assert shares.loc["pneumonia", "train"] == pytest.approx(100 / 3)
    assert shares.loc["pneumonia", "valid"] == 100 and np.isnan(shares.loc["pneumonia", "test"])


def test_subsets_are_nested_only_inside_the_training_part():
    ids = [f"i{n}" for n in range(40)]
    ranks = pd.DataFrame({"task": "segmentation", "image_id": ids, "rank": range(40)})
    assert nesting(ranks, {*ids, "further"}) == ([1, 4, 40, 41], True)
    assert nesting(ranks, set(ids[1:])) == ([1, 4, 40, 39], False)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tables of rsna and mimic_cxr that name a patient, an audit with every kind of entry, and the gate's file."""
    tmp_path = tmp_path_factory.mktemp("world")
    ids = [IMAGE, *(f"film-{n}" for n in range(9))]
    groups = [PATIENT, *(f"patient-{n}" for n in range(7)), PATIENT, "patient-7"]
    index = pd.DataFrame(
        {"image_id": ids, "group_id": groups, "target": [1, 0] * 5, "path": f"{PATIENT}/{IMAGE}.png"}
    )
    split = pd.DataFrame({"task": "detection", "image_id": ids, "group_id": groups, "split": SPLITS})
    files = {kind: tmp_path / f"{kind}.parquet" for kind in ("split", "index", "ranks")}
    write_parquet(split, files["split"])
    write_parquet(index, files["index"])
    write_parquet(pd.DataFrame({"task": "detection", "image_id": ids[:6], "rank": range(6)}), files["ranks"])
    found = [
        finding(source="rsna", count=1, total=2, ids=hash_examples([IMAGE], "key"), task="detection",
                detail="<script>alert(1)</script> & more"),
        finding("A9-unmatched", "warning", "rsna", "", unit="rows", count=1234, total=5678, split_a="", split_b=""),
        finding("A13-near-duplicate", source="mimic_cxr", scheme="paper", remedy="drop one of each"),
    ]  # fmt: skip
    facts = [
        Fact(
            "A10-trivial-baseline",
            "rsna",
            "audited",
            "beat it",
            "detection",
            {"prevalence pneumonia": 12.345},
        ),
        Fact("A2-group-overlap", "rsna", "", "patients unknown, give a map"),
        Fact("A1-image-overlap", "mimic_cxr", "official", "cannot be checked: no list"),
        Fact("A5-class-balance", "rsna", "paper", "shares", "detection", {"train": {"view AP": 0.625}}),
    ]
    audit = {"scheme": "audited", "sources": ["mimic_cxr", "rsna"], **to_document(found, facts)}
    write_json(tmp_path / "audit.json", audit)
    note = {"check": "A2-group-overlap", "source": "rsna", "reason": "its cost is <measured>"}
    write_json(tmp_path / "gate.json", {"scheme": "audited", "accepted": [note]})
    return {
        "scheme": "audited",
        "sources": ["mimic_cxr", "rsna"],
        "seeds": [0, 1],
        "audit": tmp_path / "audit.json",
        "gate": tmp_path / "gate.json",
        **{kind: 2 * [file] for kind, file in files.items()},
    }


@pytest.fixture(scope="module")
def written(world, tmp_path_factory):
    """The page and its verdicts."""
    out = tmp_path_factory.mktemp("page") / "audit/index.html"
    verdicts = write_audit_page(**world, out=out)
    return out.read_text(encoding="utf-8"), verdicts


def test_every_verdict_finding_reason_and_fact_is_on_the_page(written):
    page, verdicts = written
    assert {key: said.word for key, said in verdicts.items()} == {
        ("rsna", "audited"): "accepted",
        ("rsna", "official"): "warnings",
        ("rsna", "paper"): "warnings",
        ("mimic_cxr", "audited"): "clean",
        ("mimic_cxr", "official"): "not drawn",
        ("mimic_cxr", "paper"): "critical",
    }
    for words, _ in CHECKS.values():
        assert words in page
    for text in ("1 of 2 images", "1,234 of 5,678 rows", "drop one of each", "mend it"):
        assert text in page
    assert page.count("accepted: its cost is &lt;measured&gt;") == 2  # the verdict and the finding
    assert hash_examples([IMAGE], "key")[0] in page
    for text in (
        "12.35",
        "patients unknown, give a map",
        "cannot be checked: no list",
        "train, view AP: 0.625",
    ):
        assert text in page
    assert "Its gate is passed" in page
    assert page.count("<figure>") == 3 + 1  # a source without labels and subsets has one plot
    # the numbers behind the plots: a patient of train and test, and subsets of 6 training images
    assert re.search(r"train</td><td class=\"text\">test</td><td>1</td><td>2</td>", page)
    assert "<td>1</td><td>1</td><td>6</td><td>6</td><td>yes</td>" in page


def test_words_of_the_data_are_escaped(written):
    page, _ = written
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    assert "<script" not in page and "<measured>" not in page


def test_the_page_is_alone_and_tells_no_id(written):
    page, _ = written
    plots = [base64.b64decode(data).decode() for data in re.findall(r"base64,([^\"]+)\"", page)]
    assert len(plots) == 4 and all("<svg" in plot for plot in plots)
    for text in (page, *plots):
        assert PATIENT not in text and IMAGE not in text and "film-3" not in text
    addresses = re.findall(r"(?:src|href)=\"([^\"]*)\"", page)
    assert all(address.startswith(("data:image/svg+xml;base64,", "#")) for address in addresses)
    assert "://" not in page and "@import" not in page and "url(" not in page
    anchors = {address[1:] for address in addresses if address.startswith("#")}
    assert anchors <= set(re.findall(r" id=\"([^\"]+)\"", page))


def test_the_same_tables_give_the_same_bytes(world, written, tmp_path):
    write_audit_page(**world, out=tmp_path / "index.html")
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == written[0]
