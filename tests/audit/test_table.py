import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cmcgns.audit.table import audit_table, order_parts
from cmcgns.cli import run
from cmcgns.errors import InputError

COLUMNS = {"image": "id", "group": "patient", "split": "split"}


def table(k_images=0, k_groups=0, seed=0, names=("training", "val", "test")):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": [f"i{i}.png" for i in range(90)],
            "patient": [f"p{i // 2}" for i in range(90)],
            "split": np.repeat(names, [50, 20, 20]),
            "y": np.tile(["0", "1"], 45),
        }
    )
    rows = 70 + rng.choice(20, k_images + k_groups, replace=False)  # of test
    donors = rng.choice(50, k_images + k_groups, replace=False)
    frame.loc[rows[:k_images], ["id", "patient"]] = frame.loc[donors[:k_images], ["id", "patient"]].to_numpy()
    frame.loc[rows[k_images:], "patient"] = frame.loc[donors[k_images:], "patient"].to_numpy()
    return frame.sample(frac=1, random_state=seed)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(images=st.integers(0, 9), groups=st.integers(0, 9), seed=st.integers(0, 99))
def test_planted_leaks_are_counted_and_nothing_else(tmp_path, images, groups, seed):
    table(images, groups, seed).to_csv(tmp_path / "t.csv", index=False)
    findings, _ = audit_table(tmp_path / "t.csv", **COLUMNS, label="y")
    expected = {"A1-image-overlap": images, "A2-group-overlap": images + groups}
    assert {f.check: (f.split_a, f.split_b, f.count, f.total) for f in findings} == {
        check: ("training", "test", k, 20) for check, k in expected.items() if k
    }


def test_splits_go_in_their_usual_order_others_by_name():
    assert order_parts(["test", "VAL", "Train"]) == ["Train", "VAL", "test"]
    assert order_parts(["fold2", "fold1", "dev", "fold0"]) == ["dev", "fold0", "fold1", "fold2"]


def test_folds_are_compared_pairwise(tmp_path):
    frame = table(names=("b", "a", "c"))
    frame.loc[frame["split"] == "b", "patient"] = frame.loc[frame["split"] == "c", "patient"].iloc[0]
    frame.to_csv(tmp_path / "t.csv", index=False)
    ((found,), _) = audit_table(tmp_path / "t.csv", **COLUMNS)
    assert (found.split_a, found.split_b, found.count, found.severity) == ("b", "c", 2, "critical")


def test_unequal_classes_are_a_warning_and_a_number_is_no_class(tmp_path):
    frame = pd.DataFrame(
        {"id": range(2_000), "split": np.repeat(["train", "test"], 1_000), "age": range(2_000)}
    )
    frame["y"] = ["a"] * 500 + ["b"] * 500 + ["a"] * 800 + ["b"] * 200
    frame.to_csv(tmp_path / "t.csv", index=False)
    findings, facts = audit_table(tmp_path / "t.csv", image="id", split="split", label="y")
    assert [(f.check, f.severity, f.count) for f in findings] == [("A5-class-balance", "warning", 300)] * 2
    assert {fact.check: fact.values for fact in facts}["A10-trivial-baseline"] == {"test": 80.0}
    findings, _ = audit_table(tmp_path / "t.csv", image="id", split="split", label="age")
    assert findings == []


@pytest.mark.parametrize("column", ["id", "patient", "split"])
@pytest.mark.parametrize("blank", ["", "NaN"])
def test_blanks_are_told_with_their_line(tmp_path, column, blank):
    frame = table()
    frame.iloc[4, frame.columns.get_loc(column)] = blank
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match=f"line 6: column '{column}' is blank"):
        audit_table(tmp_path / "t.csv", **COLUMNS)


def test_missing_files_are_counted(tmp_path):
    table().to_csv(tmp_path / "t.csv", index=False)
    for i in range(3, 90):
        (tmp_path / f"i{i}.png").write_bytes(b"no image")
    findings, _ = audit_table(tmp_path / "t.csv", **COLUMNS, image_root=tmp_path)
    assert [(f.check, f.count, f.total) for f in findings] == [
        ("A9-unmatched", 3, 90),
        ("A9-unmatched", 87, 87),
    ]


def test_a_copy_in_another_split_is_found_by_its_pixels(tmp_path):
    rng = np.random.default_rng(0)
    films = [np.kron(rng.integers(0, 256, (16, 16)), np.ones((8, 8))).astype(np.uint8) for _ in range(6)]
    films[5] = films[0]
    for i, film in enumerate(films):
        Image.fromarray(film).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    frame = pd.DataFrame(
        {"id": [f"{i}.png" for i in range(6)], "split": ["train"] * 3 + ["val"] + ["test"] * 2}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    findings, _ = audit_table(tmp_path / "t.csv", image="id", split="split", image_root=tmp_path)
    told = [(f.check, f.split_a, f.split_b, f.count, f.total) for f in findings]
    assert told == [("A9-unmatched", "", "", 1, 6), ("A13-near-duplicate", "train", "test", 1, 2)]


def test_the_command(tmp_path, capsys):
    path, out = tmp_path / "t.csv", tmp_path / "audit.json"
    table(2, 3).to_csv(path, index=False)
    arguments = ["audit", "table", str(path), "--group", "patient", "--out", str(out)]
    assert run(arguments) == 1
    assert [f["count"] for f in json.loads(out.read_text())["findings"]] == [2, 5]
    assert "A2-group-overlap" in capsys.readouterr().out
    table().to_csv(path, index=False)
    assert run(arguments) == 0
    assert run([*arguments, "--label", "none"]) == 1
    assert "columns missing: none" in capsys.readouterr().err
