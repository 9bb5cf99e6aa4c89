"""Every leaf of params.yaml changes the settings of the steps that may read it, and of no other step.

A leaf that is in no row of the table fails the test: who adds a setting says here what it makes run again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from cmcgns.methods import METHODS
from cmcgns.pipeline import fingerprint as fp
from cmcgns.pipeline.plan import ALIGN, HEADS, PRETRAIN, TABLE_STEPS, Plan
from cmcgns.settings import Settings

ROOT = Path(__file__).parents[2]
MODEL = r"(pretrain|align|attention) .*"  # what trains or loads a pre-trained model
TABLES = r"table .*"
SHARED = ("table compute",)  # which variants share a phase may change
# (leaf, steps): patterns; all that changes must match one of the steps, and something must change unless there are none
EXPECTED = [
    (r"sources\.covidx_version", ["index covidx"]),
    (r"sources\.polygon_box", ["index object_cxr"]),
    (r"sources\.rsna_groups", []),  # a file: an input of the rule
    (r"sources\.max_bad_fraction", ["index .*", "images .*"]),
    (r"reports\.max_tokens", ["tokenize", "align .*", "attention .*"]),
    (r"reports\..*", ["reports"]),
    (r"images\.store_size", ["images .*"]),
    (r"images\.size", [MODEL, "features", "finetune .*", "shape_weights"]),
    (r"images\.resize", [MODEL, "features", "finetune .*"]),
    (r"splits\.scheme", ["audit.*", "gate", "table .*"]),
    (r"splits\.seed", ["split .*", "features", "align zero_shot .*", "attention .*", "tsne .*"]),
    (r"splits\.chexpert_valid_images", ["split chexpert"]),
    (r"splits\.covidx_valid_fraction", ["split covidx"]),
    (r"splits\.siim_subset_of", ["subset siim", "audit"]),
    (r"splits\.merge_test_into_valid", ["split mimic_cxr"]),
    (r"audit\.near_duplicates", ["audit"]),
    (r"audit\.accept", ["gate"]),
    (r"encoders\.image\.arch", [MODEL, "features", "finetune .*", "trunk .*", "shape_weights"]),
    (r"encoders\.image\.weights", []),  # every preset of the paper names its own
    (r"encoders\.text\..*", [MODEL, "tokenize"]),
    (r"encoders\.shapes\..*", ["shape_weights"]),
    (r"pretraining\.(seed|pairing|devices|threads)", [MODEL]),
    (r"pretraining\.preset", [MODEL, "audit_runs"]),
    (r"pretraining\.augmentation", [MODEL]),
    (r"pretraining\.training\..*", [MODEL, "audit_runs"]),
    (r"pretraining\.(next_phase_from|final_checkpoint|checkpoint_minutes)", []),
    (r"tracking\..*", []),
    (r"methods\.(\w+)\.(objective|shares|presets)\..*", [r"(pretrain|align \w+|attention) {0}(-\w+)?( .*)?", "audit_runs", *SHARED]),
    (r"ablation\..*", [r"(pretrain|align \w+|attention) cm_cgns-.*", "audit_runs", TABLES]),
    (r"leakage\..*", [TABLES]),
    (r"sensitivity\.pairs", [TABLES, "audit_runs"]),
    (r"sensitivity\..*", []),  # not asked for in the paper's profile
    (r"downstream\.methods", [TABLES, "audit_runs"]),
    (r"downstream\.pairs", [TABLES, "audit_runs", "audit", "audit_page"]),
    (r"downstream\.fractions", [TABLES, "audit_runs"]),
    (r"downstream\.seeds", [TABLES, "audit_runs", "audit", "audit_page"]),
    (r"downstream\.imagenet_weights", ["trunk imagenet"]),
    (r"downstream\.classification\.(views|augmentation)", ["features", "finetune classification.*"]),
    (r"downstream\.(classification|detection|segmentation)\..*", [r"finetune {0}-.*", "audit_runs"]),
    (r"downstream\.overrides.*", ["finetune .*", "audit_runs"]),
    (r"downstream\.precision", ["finetune .*"]),
    (r"downstream\.bootstrap", ["finetune classification.*"]),
    (r"downstream\.threads", ["finetune .*", "features", "align .*", "attention .*"]),
    (r"alignment\.kinds", [TABLES]),
    (r"alignment\.gallery", ["align retrieval .*"]),
    (r"alignment\.(seeds|batch_size)", ["align .*", "attention .*"]),
    (r"figures\.kinds", []),
    (r"figures\.films", ["attention .*"]),
    (r"synthetic", ["synthesize"]),
]  # fmt: skip


def slices(plan: Plan) -> dict[str, str]:
    found = {
        step: plan.params(step)
        for step in (
            *("synthesize", "reports", "tokenize", "features", "audit", "audit_page", "audit_runs"),
            "shape_weights",  # not `report`, which shows all settings
        )
    }
    found["gate"] = plan.params("gate", scheme="audited")
    for source in ("chexpert", "covidx", "mimic_cxr", "object_cxr", "rsna", "siim"):
        for step in ("index", "images"):
            found[f"{step} {source}"] = plan.params(step, source=source)
        found[f"split {source}"] = plan.params("split", source=source, scheme="audited")
        found[f"subset {source}"] = plan.params("subset", source=source, seed=0)
    for arm in BEFORE_ARMS:
        for phase in plan.phases(arm):
            found[f"pretrain {arm} {phase}"] = plan.params("pretrain", arm=arm, phase=phase)
    for arm in ("clip", "cm_cgns", "cm_cgns-mir"):
        found[f"attention {arm}"] = plan.params("attention", arm=arm)
        for kind in ("retrieval", "zero_shot", "grounding"):
            found[f"align {kind} {arm}"] = plan.params("align", kind=kind, arm=arm)
    found["tsne random"] = plan.params("tsne", arm="random")
    for trunk in ("random-seed0", "imagenet", "cm_cgns"):
        found[f"trunk {trunk}"] = plan.params("export_trunk", trunk=trunk)
    for pair in BEFORE_PAIRS:
        for fraction in (1, 10, 100):
            found[f"finetune {pair} {fraction}"] = plan.params("finetune", pair=pair, fraction=fraction)
    for name in ("1", "2", "3", "4", "retrieval", "leakage", "compute", "comparisons", "ranks", "claims"):
        found[f"table {name}"] = plan.params("table", name=name)
    return found


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    children = dict(value) if isinstance(value, BaseModel) else value
    if isinstance(children, dict) and children:
        for key, child in children.items():
            yield from leaves(child, (*path, str(key)))
    else:
        yield path


def changed(value: Any, path: tuple[str, ...]) -> Any:
    """A copy whose leaf is another value of its type; nothing is validated, so that any other value will do."""
    if isinstance(value, BaseModel):
        child = getattr(value, path[0])
        return value.model_copy(
            update={path[0]: changed(child, path[1:]) if path[1:] else _other(child, path[0])}
        )
    key = next(key for key in value if str(key) == path[0])
    return {**value, key: changed(value[key], path[1:]) if path[1:] else _other(value[key], path[0])}


EMPTY = {
    "accept": [{"check": "A1-image-overlap", "source": "rsna", "reason": "x"}],
    "pairs": ["classification-chexpert"],
    "milestones": (1,),
}
NAMES_A_METHOD = ("ablation.of", "sensitivity.of")


def _other(value: Any, key: str = "") -> Any:
    if value in ([], ()):
        return EMPTY[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list | tuple):
        return type(value)(list(value)[:-1])
    if isinstance(value, dict):
        return {"detection-rsna-1": {"batch_size": 4}}
    return "official" if value in ("audited", "paper") else f"{value}x"


PLAN = Plan.load("paper", ROOT / "params.yaml")
BEFORE_ARMS, BEFORE_PAIRS = PLAN.arms(), PLAN.settings.downstream.pairs
BEFORE = slices(PLAN)
LEAVES = [".".join(path) for path in leaves(PLAN.settings) if path != ("profile",)]
LEAVES = [leaf for leaf in LEAVES if leaf not in NAMES_A_METHOD]


def row(leaf: str) -> tuple[str, list[str]]:
    for pattern, steps in EXPECTED:
        if match := re.fullmatch(pattern, leaf):
            named = match.groups()[0] if match.groups() else ""
            return pattern, [step.format(named) if "{0}" in step else step for step in steps]
    pytest.fail(f"{leaf}: say in EXPECTED what it makes run again")


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_reaches_its_steps_and_no_other(leaf):
    _, steps = row(leaf)
    settings: Settings = changed(PLAN.settings, tuple(leaf.split(".")))
    after = slices(Plan(settings))
    moved = {name for name in BEFORE if BEFORE[name] != after[name]}
    strangers = {name for name in moved if not any(re.fullmatch(step, name) for step in steps)}
    assert not strangers
    if not steps:
        assert not moved


def test_no_row_is_idle():
    """Each row has a leaf, and each row with steps a leaf that moves one: the table says nothing that is not so."""
    used: dict[str, bool] = {}
    for leaf in LEAVES:
        pattern, steps = row(leaf)
        if not steps or not used.get(pattern):
            after = slices(Plan(changed(PLAN.settings, tuple(leaf.split(".")))))
            used[pattern] = used.get(pattern, False) or after != BEFORE
    for pattern, steps in EXPECTED:
        assert pattern in used, f"no leaf is {pattern}"
        assert used[pattern] == bool(steps), pattern


RULES = "".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
STEPS = {
    *re.findall(r'"(cmcgns\.[a-z_.]+\.[a-z_]+)"', RULES),
    *HEADS.values(),
    *TABLE_STEPS.values(),
    PRETRAIN,
    ALIGN,
} - {"cmcgns.sources."}
RUNS = {f"{task}.finetune" for task in HEADS}
NUMBERS = {
    *("tables.write_table", "alignment_tables.write_alignment_table"),
    *(f"{n}.write_{n}" for n in ("compute", "comparisons", "ranks", "claims", "leakage")),
}
FIGURES = {"figures.attention_figure", "figures.tsne_figure"}
CODE = {  # a module, or all of a package: the steps that a change of it makes run again
    "audit": {"profile.audit_profile", "audit_page.write_audit_page", "runs.audit_runs", "gate.pass_gate"},
    "evaluation": {
        *(*RUNS, *FIGURES, "encode.write_features", "alignment.align", "comparisons.write_comparisons"),
        "leakage.write_leakage",
    },
    "evaluation.detect": {"detection.finetune"},
    "evaluation.segment": {"segmentation.finetune"},
    "evaluation.probe": {"classification.finetune"},
    "images.hashing": {"write.write_split", "write.write_ranks", "profile.audit_profile"},
    "losses": {
        "detection.finetune",
        "segmentation.finetune",
    },  # those of pre-training come with the method's file
    "objectives": {"run.pretrain", "alignment.align", *FIGURES},
    "reporting": {
        *NUMBERS,
        *FIGURES,
        "audit_page.write_audit_page",
        "page.write_page",
        "summary.write_summary",
    },
    "reporting.page": {"page.write_page"},
    "reporting.figures": FIGURES,
    "step": {".".join(step.split(".")[-2:]) for step in STEPS},
    "synthetic": {"synthesize.synthesize_world", "shape_weights.train_shape_weights"},
    "training": {"run.pretrain", "export.export_trunk"},
    "training.loop": {"run.pretrain"},
}


@pytest.mark.parametrize("part", CODE)
def test_code_reaches_its_steps_and_no_other(part):
    name = f"cmcgns.{part}"
    reached = {
        ".".join(step.split(".")[-2:])
        for step in STEPS
        if any(
            found == name or found.startswith(f"{name}.")
            for found in fp.closure(fp.ENTRY, step.rpartition(".")[0])
        )
    }
    assert reached == CODE[part]


@pytest.mark.parametrize(
    ("module", "arms"),
    [
        ("objectives.moco", {"moco", "moco_v2"}),
        ("objectives.clip", {"clip"}),
        ("losses.bml", {"cm_cgns"}),
        ("losses.gloria", {"gloria"}),
        ("models.kmeans", {"cm_cgns"}),
    ],
)
def test_a_method_s_file_reaches_its_arms_and_no_other(module, arms):
    reached = set()
    for arm in METHODS:
        if PLAN.phases(arm):
            file = f"cmcgns.objectives.{METHODS[arm].objective.split('.')[0]}"
            if f"cmcgns.{module}" in fp.closure(PRETRAIN.rpartition(".")[0], file):
                reached.add(arm)
    assert reached == arms
