"""The report page: the paper's cells with verdicts, the other tables as they are, a curve a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from cmcgns.errors import InputError
from cmcgns.files import write_text
from cmcgns.pipeline.paths import Paths
from cmcgns.reporting.collect import write
from cmcgns.reporting.page import verdict, write_page
from cmcgns.reporting.tables import Cell, to_csv

CELL = Cell("I", "CheXpert", "classification", "AUC", "CM-CGNS", "1%", 3, 80.0, 1.0, 82.0, 1.5)


def test_a_page_holds_its_tables_and_one_curve_for_a_shared_phase(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = Paths("t")
    write_text(paths.table("1", "csv"), to_csv([CELL]))
    write_text(paths.table("1", "details.csv"), to_csv([]))
    write_text(paths.table("1", "md"), "| Method |\n\nAccepted: A2 in RSNA, because <it is asked>\n")
    write_text(paths.table("claims", "csv"), "claim,empty,verdict\nC1,,<holds>\n")
    write_text("shared/history.csv", "epoch,train_loss,valid_loss\n1,2.0,3.0\n2,1.0,2.0\n")
    phases = [["cm_cgns", "stage1", "shared"], ["cm_cgns-cgns", "stage1", "shared"]]
    write_page(paths, tables=["1"], others=["claims"], phases=phases)
    page = Path(paths.report).read_text()
    assert "80.00 ± 1.00" in page and "within 2 std" in page
    assert "&lt;holds&gt;" in page and "<holds>" not in page
    assert ">empty<" not in page  # a column without a value
    assert page.count("<figure>") == 1
    assert "Accepted: A2 in RSNA, because &lt;it is asked&gt;" in page


@pytest.mark.parametrize(
    ("mean", "expected"), [(82.0, "within 1 std"), (84.9, "within 2 std"), (85.1, "above"), (None, "not run")]
)
def test_the_verdict_counts_the_paper_s_deviations(mean, expected):
    assert verdict(CELL._replace(mean=mean)) == expected


def test_a_table_without_runs_is_refused():
    with pytest.raises(InputError, match="no runs for the table 'grounding'"):
        write("grounding", Paths("t"), {"metrics": {}})
