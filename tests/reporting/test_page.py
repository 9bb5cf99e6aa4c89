"""The report page: what stands in its tables, what its numbers come from, and that it needs nothing but its inputs."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from statistics import fmean, stdev

import pytest
from PIL import Image

from cmcgns.pipeline.fingerprint import code_of
from cmcgns.pipeline.plan import HEADS, PRETRAIN, Plan
from cmcgns.reporting.page import picture, write_page
from cmcgns.reporting.page_curves import efficiency_plots
from cmcgns.reporting.page_plots import Line, Point, plot, thin
from cmcgns.reporting.page_tables import (
    Known,
    count_verdicts,
    family,
    grid,
    notes,
    plain,
    settings_table,
    verdict,
)
from cmcgns.reporting.resolution import read_rows, resolution
from cmcgns.reporting.tables import Cell

ROOT = Path(__file__).parents[2]
CELL = Cell("I", "CheXpert", "classification", "AUC", "CM-CGNS", "1%", 3, 80.0, 1.0, 82.0, 1.5)


@pytest.fixture(scope="module")
def ci(make_up, report_job, tmp_path_factory):
    """The plan of profile ci, its made-up runs, and the report's data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("ci"))
        plan = Plan.load("ci", ROOT / "params.yaml")
        make_up(plan)
        write_page(**report_job(plan))
        text = Path(plan.paths.report).read_text()
        yield plan, text, json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def button(text: str, place: int) -> str:
    """The words of a number's button."""
    found = re.search(rf'<button [^>]*data-number="{place}"[^>]*>(.*?)</button>', text, re.DOTALL)[1]
    return " ".join(re.sub(r"<[^>]+>", " ", found).split())


def test_a_number_is_the_mean_of_its_history(ci):
    plan, text, data = ci
    (place,) = [i for i, n in enumerate(data["numbers"]) if n.get("trace") == "table1 / RSNA / 10% / CM-CGNS" and n["score"] == "primary"]  # fmt: skip
    entry = data["numbers"][place]
    (key,) = entry["runs"]
    assert key == "finetune/cm_cgns/classification-rsna/10"
    run = data["runs"][key]
    on_disk = []
    for seed, shown in zip(plan.settings.downstream.seeds, run["seeds"], strict=True):
        file = plan.paths.cell("cm_cgns", "classification-rsna", 10, seed) + "/metrics.json"
        on_disk.append(100 * json.loads(Path(file).read_text())["primary"])
        assert shown["file"] == file and shown["seed"] == seed
        assert shown["values"]["primary"] == pytest.approx(on_disk[-1], abs=1e-4)
        assert shown["n"] == [120, 30, 40] and shown["hashes"] == {"split_sha256": "ab" * 32}
        assert shown["interval"] == [40.0, 80.0]
    assert entry["value"] == f"{fmean(on_disk):.2f} ± {stdev(on_disk):.2f}"
    assert button(text, place).startswith(entry["value"])
    assert f"paper {entry['paper']}" in button(text, place) and entry["verdict"] in button(text, place)


def test_a_history_names_settings_code_and_where_the_encoder_is_from(ci):
    plan, _, data = ci
    run = data["runs"]["finetune/cm_cgns/classification-rsna/10"]
    assert run["settings"] == ["classification-rsna-10", "features"]
    assert data["settings"]["classification-rsna-10"] == plan.slice("finetune", pair="classification-rsna", fraction=10)  # fmt: skip
    assert run["code"] == code_of(HEADS["classification"])
    assert run["weights"] == plan.final("cm_cgns")
    assert run["phases"] == ["cm_cgns/stage1", "cm_cgns/stage2"]
    for phase in run["phases"]:
        assert data["phases"][phase]["file"] == f"{plan.paths.results}/pretrain/{phase}/history.csv"
        assert data["phases"][phase]["code"] == code_of(PRETRAIN, plan.objective("cm_cgns"))
        assert data["phases"][phase]["cost"]["updates"] == 64
        assert data["settings"][phase] == plan.slice("pretrain", arm="cm_cgns", phase=phase.split("/")[1])
    trunks = [s["trunk"] for s in data["runs"]["finetune/random/detection-rsna/10"]["seeds"]]
    assert trunks == [plan.paths.trunk("random-seed0"), plan.paths.trunk("random-seed1")]


def test_every_name_in_the_data_leads_somewhere(ci):
    _, text, data = ci
    assert {int(n) for n in re.findall(r'data-number="(\d+)"', text)} == set(range(len(data["numbers"])))
    for entry in data["numbers"]:
        assert set(entry.get("runs", [])) <= data["runs"].keys()
        assert set(entry.get("phases", [])) <= data["phases"].keys()
    for run in data["runs"].values():
        assert {*run["settings"], *run["phases"]} <= data["settings"].keys()
        assert set(run["phases"]) <= data["phases"].keys()
    named = {key for entry in data["numbers"] for key in entry.get("runs", [])}
    assert named == data["runs"].keys()  # no history that nothing shows


def test_a_row_of_a_comparison_has_the_runs_of_both(ci):
    _, _, data = ci
    (entry,) = [n for n in data["numbers"] if n["title"].endswith(": I, RSNA, 10%, MoCo, CM-CGNS")]
    assert set(entry["runs"]) == {f"finetune/{arm}/classification-rsna/10" for arm in ("moco", "cm_cgns")}
    official = [n for n in data["numbers"] if "What leakage costs" in n["title"] and "official" in n["title"]]
    assert official[0]["runs"] == ["leakage/official/random/classification-rsna/10"]


def test_each_table_of_runs_says_what_it_can_tell_apart(ci):
    plan, text, _ = ci
    written = resolution(read_rows(Path(plan.paths.table("comparisons", "csv"))))
    assert written.keys() >= {"I", "II", "III"}
    for table, words in written.items():
        assert text.count(f"cannot be told apart here: {words}.") == 1, table


def test_the_same_files_give_the_same_page_from_the_declared_inputs_alone(
    ci, report_job, tmp_path, monkeypatch
):
    plan, text, _ = ci
    job = report_job(plan)
    files = [file for value in job.values() for file in (value if isinstance(value, list) else [value])]
    for file in (file for file in files if isinstance(file, Path) and file != job["out"]):
        target = tmp_path / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    monkeypatch.chdir(tmp_path)
    write_page(**job)
    assert job["out"].read_text() == text


def test_words_of_others_are_escaped_and_nothing_is_fetched(ci):
    _, text, _ = ci
    assert "&lt;/script&gt; it is &lt;asked&gt;" in text and "&lt;holds&gt;" in text
    assert "<asked>" not in text and "<holds>" not in text
    assert set(re.findall(r'(?:src|href)="([^"#][^"]{0,22})', text)) == {
        "../audit/index.html",
        "data:,",
        "data:image/png;base64,i",
        "data:image/svg+xml;base",
    }
    assert "A sentence about claims." in text
    assert ">Empty<" not in text  # a column without a value


def test_the_audit_of_the_runs_own_scheme_is_counted(ci):
    _, text, _ = ci
    assert '<tr><th scope="row">rsna</th><td>1</td><td>1</td><td>0</td></tr>' in text
    assert '<tr><th scope="row">chexpert</th><td>0</td><td>0</td><td>0</td></tr>' in text


@pytest.mark.parametrize(
    ("mean", "expected"), [(82.0, "within 1 std"), (84.9, "within 2 std"), (85.1, "above"), (78.9, "below"), (None, "not run")]
)  # fmt: skip
def test_the_verdict_counts_the_paper_s_deviations(mean, expected):
    assert verdict(CELL._replace(mean=mean)) == expected


def test_verdicts_are_counted_for_cells_that_the_paper_has():
    cells = [CELL, CELL._replace(mean=None), CELL._replace(mean=None), CELL._replace(paper_mean=None)]
    assert count_verdicts(cells) == "1 within 2 std, 2 not run"


def test_best_and_second_best_of_a_column_are_marked_among_runs():
    methods = {"Random Init": (50.0, 3), "MoCo": (70.0, 3), "CLIP": (70.0, 3), "PRIOR": (60.0, 3)}
    cells = [CELL._replace(method=m, mean=mean, n_runs=n) for m, (mean, n) in methods.items()]
    cells += [CELL._replace(method="Chance", mean=99.0, n_runs=0), CELL._replace(method="MGCA", mean=None)]
    cells += [CELL._replace(method="MoCo", fraction="10%", mean=10.0)]
    table = grid("1", cells, Known({}, {}, "audited", {}, []), lambda cell: 7)
    first = {row["method"]: row["cells"][1] for row in table["rows"]}
    assert {name: cell.get("rank") for name, cell in first.items()} == {
        "Random Init": None, "MoCo": "best", "CLIP": "best", "PRIOR": "second", "Chance": None, "MGCA": None,
    }  # fmt: skip
    assert "number" not in first["MGCA"] and first["MGCA"]["verdict"] == "not run"
    assert table["rows"][1]["cells"][2]["rank"] == "best"  # its own column
    assert table["groups"] == [{"label": "CheXpert, AUC", "dataset": "CheXpert", "span": 2}]


def test_a_plain_table_makes_whole_numbers_buttons_and_leaves_words():
    lines = [["what", "value", "empty"], ["a", "+8.66", ""], ["b", "1e-05", ""], ["c 3", "", ""]]
    known = Known({"claims": Path("results/t/tables/claims.csv")}, {}, "audited", {}, [])
    table = plain("claims", lines, known)
    assert [head["label"] for head in table["heads"]] == ["What", "Value"]
    assert [row["cells"][1] for row in table["rows"]] == [
        {"text": "+8.66", "number": 0, "sort": 8.66},
        {"text": "1e-05", "number": 1, "sort": 1e-05},
        {"text": ""},
    ]
    assert known.numbers[0]["files"] == ["results/t/tables/claims.csv"]


def test_a_variant_belongs_to_its_method_s_family():
    local = "local image-text"
    assert [family(t, ["cm_cgns-mu=1.0"]) for t in ("CM-CGNS", "mu=1.0", "Baseline", "Chance")] == [
        local
    ] * 3 + [""]


def test_settings_read_as_in_the_file():
    table = settings_table([["a.b", None, 1e-4], ["c", True, [1, 2]], ["d", [], {"x": "y"}]], "ci")
    words = [[cell["text"] for cell in row["cells"]] for row in table["rows"]]
    assert words == [["a.b", "–", "0.0001"], ["c", "true", "1, 2"], ["d", "none", "x: y"]]


def test_notes_are_the_sentences_round_a_table(tmp_path):
    file = tmp_path / "x.md"
    file.write_text("Above.\n\n| a |\n|---|\n| 1 |\n\n- below\n")
    assert notes(file) == ["Above.", "below"]


def test_a_plot_places_points_on_its_axes():
    line = Line("a <b>", 7, [Point(0, 10.0, 0.0, 20.0), Point(2, 20.0, 15.0, 20.0)])
    svg = plot([line], title="t", x_label="x", y_label="y", x_ticks={0: "1 %", 2: "100 %"})
    # left edge 50 + 8, right edge 380 - 10 - 8; 0 to 20 lies between y = 220 and y = 12
    assert 'd="M58.0,116.0L362.0,12.0"' in svg
    assert 'd="M58.0,220.0L58.0,12.0M362.0,64.0L362.0,12.0"' in svg
    assert 'class="line c1 dashed"' in svg and "a &lt;b&gt;" in svg
    assert re.findall(r'text-anchor="end">([^<]+)<', svg) == ["0", "5", "10", "15", "20"]
    assert ">1 %<" in svg and ">100 %<" in svg


def test_error_bars_of_several_lines_stand_beside_each_other_inside_the_axes():
    points = [Point(0, 1.0, 0.0, 2.0), Point(1, 1.0, 0.0, 2.0)]
    svg = plot([Line("a", 0, points), Line("b", 1, points)], title="t", x_label="x", y_label="y")
    assert re.findall(r'cx="([\d.]+)"', svg) == ["58.0", "359.5", "60.5", "362.0"]


def test_a_flat_line_and_a_single_point_have_a_plot():
    for points in ([Point(1, 3.0)], [Point(1, 3.0), Point(2, 3.0)]):
        svg = plot([Line("a", 0, points)], title="t", x_label="x", y_label="y", band=True)
        assert "nan" not in svg and "inf" not in svg


def test_thinning_keeps_the_ends():
    points = [Point(x, 0.0) for x in range(100)]
    assert [p.x for p in thin(points, 4)] == [0, 33, 66, 99]
    assert thin(points[:3], 4) == points[:3]


def test_data_efficiency_shows_mean_and_deviation_over_seeds():
    values = {"clip": (10.0, 20.0, None), "moco": (None,)}
    runs = {
        f"finetune/{arm}/detection-rsna/10": {"seeds": [{"values": {"primary": v}} for v in found]}
        for arm, found in values.items()
    }
    (found,) = efficiency_plots(
        [("clip", "detection-rsna", 10), ("moco", "detection-rsna", 10)], runs, {"clip": 0}
    )
    assert "CLIP: 15<" in found["svg"] and "MoCo" not in found["svg"]
    # 15 ± 7.07 from 7.93 to 22.07, axis from 7.5 or lower to 22.5 or higher
    low, high = (
        float(y)
        for y in re.search(r'class="bar c0" d="M[\d.]+,([\d.]+)L[\d.]+,([\d.]+)"', found["svg"]).groups()
    )
    dot = float(re.search(r'cy="([\d.]+)"', found["svg"])[1])
    assert low - dot == pytest.approx(dot - high, abs=0.11) and low > dot > high


def test_a_picture_is_made_smaller_and_never_larger(tmp_path):
    file = tmp_path / "x.png"
    Image.new("RGB", (100, 50), "red").save(file)
    sizes = [Image.open(io.BytesIO(base64.b64decode(picture(file, width)))).size for width in (40, 200)]
    assert sizes == [(40, 20), (100, 50)]
