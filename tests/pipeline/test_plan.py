"""A step may read exactly its slice; the code of a step is what it imports."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest
import yaml

from cmcgns.pipeline import fingerprint as fp
from cmcgns.pipeline.plan import HEADS, PRETRAIN, Plan

ROOT = Path(__file__).parents[2]
ALIGN = ("align retrieval", "align zero_shot", "align grounding")


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.chdir(ROOT)
    return Plan.load("paper")


def slices(plan: Plan) -> dict[str, str]:
    found = {
        step: plan.params(step)
        for step in (
            "synthesize",
            "reports",
            "tokenize",
            "features",
        )  # the report shows all settings
    }
    for source in plan.sources():
        for step in ("index", "images"):
            found[f"{step} {source}"] = plan.params(step, source=source)
        found[f"split {source}"] = plan.params("split", source=source, scheme="audited")
        found[f"subset {source}"] = plan.params("subset", source=source, seed=0)
    for phase in plan.phases("cm_cgns"):
        found[f"pretrain {phase}"] = plan.params("pretrain", arm="cm_cgns", phase=phase)
    found["pretrain moco"] = plan.params("pretrain", arm="moco", phase="stage1")
    for kind in plan.settings.alignment.kinds:
        found[f"align {kind}"] = plan.params("align", kind=kind, arm="cm_cgns")
    found["attention"] = plan.params("attention", arm="cm_cgns")
    found["tsne"] = plan.params("tsne", arm="cm_cgns")
    for trunk in ("random-seed0", "imagenet", "cm_cgns"):
        found[f"trunk {trunk}"] = plan.params("export_trunk", trunk=trunk)
    for pair in plan.settings.downstream.pairs:
        for fraction in plan.settings.downstream.fractions:
            found[f"{pair} {fraction}"] = plan.params("finetune", pair=pair, fraction=fraction)
    return found


@pytest.mark.parametrize(
    ("keys", "value", "changed"),
    [
        ("reports/min_report_tokens", 4, {"reports"}),
        ("reports/max_tokens", 128, {"tokenize", "attention", *ALIGN}),
        ("alignment/gallery", 50, {"align retrieval"}),
        ("figures/films", 2, {"attention"}),
        ("methods/moco/objective/tau", 0.1, {"pretrain moco"}),
        (
            "encoders/text/name",
            "a folder",
            {"tokenize", "pretrain stage1", "pretrain stage2", "attention", *ALIGN},
        ),
        ("pretraining/training/lr", 1e-4, set()),
        ("splits/chexpert_valid_images", 4000, {"split chexpert"}),
        ("splits/siim_subset_of", "all", {"subset siim"}),
        ("methods/cm_cgns/objective/lambda_re", 5.0, {"pretrain stage2", "attention", *ALIGN}),
        ("methods/cm_cgns/objective/mu", 2.0, {"pretrain stage1", "pretrain stage2", "attention", *ALIGN}),
        ("methods/cm_cgns/presets/paper/training/stage2/epochs", 3, {"pretrain stage2"}),
        ("methods/cm_cgns/presets/matched", {"objective": {"mu": 1.0}}, set()),
        ("pretraining/final_checkpoint", "last", set()),
        ("downstream/seeds", [0, 1, 2, 3, 4, 5], set()),
        ("downstream/imagenet_weights", "imagenet1k_v2", {"trunk imagenet"}),
        (
            "downstream/segmentation/lr",
            1e-3,
            {f"segmentation-{s} {f}" for s in ("siim", "rsna") for f in (1, 10, 100)},
        ),
        ("downstream/overrides/detection-rsna-1", {"batch_size": 4}, {"detection-rsna 1"}),
    ],
)
def test_a_leaf_changes_the_slices_that_read_it_and_no_other(plan, tmp_path, keys, value, changed):
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    *parents, last = keys.split("/")
    position = tree
    for key in parents:
        position = position[key]
    position[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree))
    before, after = slices(plan), slices(Plan.load("paper", path))
    assert {name for name in before if before[name] != after[name]} == changed


def test_the_report_shows_what_a_run_could_read_and_what_is_not_the_paper_s(plan):
    shown = plan.slice("report")
    assert shown["differences"] == []
    assert shown["settings"]["prior/stage2"] == plan.slice("pretrain", arm="prior", phase="stage2")
    assert shown["settings"]["cm_cgns-mir/stage2"] == {
        "as": "cm_cgns/stage2",
        "but": {"objective.clustering": False},
    }
    assert "cm_cgns-mir/stage1" not in shown["settings"]  # that of cm_cgns-baseline
    demo = {leaf: values for leaf, *values in Plan.load("demo").slice("report")["differences"]}
    assert demo["images.size"] == [224, 64] and demo["synthetic.seed"] == [None, 0]
    assert "images.store_size" not in demo and "profile" not in demo


def test_a_report_s_settings_fit_a_command_line():
    for profile in ("paper", "science_gpu"):  # Linux takes 128 KiB in one piece
        assert len(Plan.load(profile).params("report")) < 100_000


def test_the_runs_are_the_product_of_the_settings_and_the_ablation(plan):
    every = list(plan.cells())
    cells = [cell for cell in every if not cell.other_scheme]
    d = plan.settings.downstream
    product = len(d.methods) * len(d.pairs) * len(d.fractions) * len(d.seeds)
    # three variants on two pairs; the full method is a run of Tables I and III already
    assert len(cells) == len(set(cells)) == product + 3 * 2 * len(d.fractions) * len(d.seeds)
    # the table of leakage: its cells again under the two other schemes
    asked = plan.settings.leakage
    size = len(asked.arms) * len(asked.pairs) * len(asked.fractions) * len(d.seeds)
    assert len(every) - len(cells) == 2 * size
    assert {cell.other_scheme for cell in every} == {"", "official", "paper"}


def test_one_line_chooses_the_methods_and_nothing_else_brings_one_in(tmp_path):
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    chosen = ["random", "clip", "gloria"]
    tree["profiles"]["demo"]["downstream"]["methods"] = chosen
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    demo = Plan.load("demo", path)
    assert demo.arms() == chosen and {cell.arm for cell in demo.cells()} == set(chosen)
    assert "leakage" not in demo.tables() and "leakage" in Plan.load("demo", ROOT / "params.yaml").tables()


def test_a_file_of_start_weights_is_an_input_and_a_name_is_none(plan, tmp_path):
    assert plan.weight_files("cm_cgns") == plan.weight_files("imagenet") == plan.weight_files("random") == []
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["methods"]["cm_cgns"]["presets"]["paper"]["image_weights"] = "shapes"
    tree["downstream"]["imagenet_weights"] = "my/weights.pth"
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    other = Plan.load("paper", path)
    assert other.weight_files("cm_cgns") == ["data/paper/weights/shapes.safetensors"]
    assert other.weight_files("imagenet") == ["my/weights.pth"]
    settings = other.slice("pretrain", arm="cm_cgns", phase="stage1")
    assert settings["encoders"]["image"]["weights"] == "a file"


def test_variants_share_the_phases_in_which_they_do_not_differ(plan):
    assert plan.owner("cm_cgns-cgns", "stage1") == "cm_cgns"
    assert (
        plan.owner("cm_cgns-mir", "stage1") == plan.owner("cm_cgns-baseline", "stage1") == "cm_cgns-baseline"
    )
    last = {
        plan.owner(arm, "stage2") for arm in ("cm_cgns", "cm_cgns-cgns", "cm_cgns-mir", "cm_cgns-baseline")
    }
    assert len(last) == 4
    assert "/cm_cgns-baseline/stage1/" in plan.start("cm_cgns-mir", "stage2")


def test_the_grid_adds_a_run_a_value_that_is_not_the_default(plan, tmp_path):
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    tree["sensitivity"] |= {
        "pairs": ["classification-chexpert"],
        "grid": {"mu": [1.0, 3.0], "mask_ratio": [0.7]},
    }
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    grid = Plan.load("paper", path)
    assert [arm for arm in grid.arms() if "=" in arm] == ["cm_cgns-mu=1.0", "cm_cgns-mask_ratio=0.7"]
    assert grid.owner("cm_cgns-mask_ratio=0.7", "stage1") == "cm_cgns"
    assert grid.owner("cm_cgns-mu=1.0", "stage1") == "cm_cgns-mu=1.0"
    added = set(grid.cells()) - set(plan.cells())
    assert {(c.arm, c.fraction) for c in added} == {("cm_cgns-mu=1.0", 10), ("cm_cgns-mask_ratio=0.7", 10)}
    assert grid.groups("sensitivity")[-1] == ("cm_cgns", "classification-chexpert", 10)


def test_a_random_start_has_a_trunk_a_seed_and_a_method_one():
    assert Plan.trunk("random", 3) == "random-seed3"
    assert Plan.trunk("cm_cgns", 3) == "cm_cgns"


def test_data_steps_do_not_see_the_training():
    def code(step: str) -> set[str]:
        return fp.closure(step.rpartition(".")[0])

    assert not any(".training" in name or ".objectives" in name for name in code(HEADS["detection"]))
    assert not any(".evaluation" in name for name in code(PRETRAIN))
    assert "cmcgns.images.place" in code("cmcgns.images.store.store_source")


def test_the_fingerprint_ignores_comments_and_docstrings_but_not_code(tmp_path, monkeypatch):
    package = tmp_path / "cmcgns"
    shutil.copytree(fp.ROOT / "splits", package / "splits")
    for name in ("__init__", "errors", "files", "parquet", "randomness", "step"):
        shutil.copy(fp.ROOT / f"{name}.py", package / f"{name}.py")
    monkeypatch.setattr(fp, "ROOT", package)

    def now() -> str:
        for cached in (fp.fingerprint, fp._imports, fp._read, fp._known, fp._modules):
            cached.cache_clear()
        return fp.code_of("cmcgns.splits.subsets.take")

    try:
        first = now()
        file = package / "randomness.py"
        text = file.read_text()
        assert ast.get_docstring(ast.parse(text))
        file.write_text("# a comment\n" + text.replace('"""Every random', '"""Each random'))
        assert now() == first
        file.write_text(text.replace(">> 1", ">> 2"))
        assert now() != first
    finally:
        monkeypatch.undo()
        for cached in (fp.fingerprint, fp._imports, fp._read, fp._known, fp._modules):
            cached.cache_clear()
