"""The command line: one thin command a step. A command parses, calls one function of its room, and prints.

Every step reads and writes the files of a profile (`pipeline/paths.py`). The rules of the job graph pass `--settings`, the
slice of `params.yaml` the step may read; by hand it is taken from `params.yaml`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cmcgns.audit.command import audit_app
from cmcgns.errors import InputError
from cmcgns.pipeline.paths import Paths
from cmcgns.settings import PAIRS

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="CM-CGNS reproduced: from raw radiographs and reports to the paper's tables.",
)
reports_app = typer.Typer(no_args_is_help=True, help="Radiology reports: sections, sentences, filters.")
app.add_typer(reports_app, name="reports")
app.add_typer(audit_app, name="audit")

figure_app = typer.Typer(no_args_is_help=True, help="The paper's figures 4 and 5.")
app.add_typer(figure_app, name="figure")

TABLE_NAMES = (
    *("1", "2", "3", "4", "sensitivity", "retrieval", "zero_shot", "grounding"),
    *("leakage", "compute", "comparisons", "claims"),
)
Source = Literal["mimic_cxr", "chexpert", "rsna", "covidx", "siim", "object_cxr"]
Profile = Annotated[str, typer.Option(help="Which profile of params.yaml.")]
SettingsText = Annotated[
    str | None, typer.Option("--settings", help="JSON; taken from params.yaml if not given.")
]
Scheme = Annotated[str, typer.Option(help="Split scheme: official, paper or audited.")]


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status; an `InputError` ends in one message."""
    try:
        result = app(arguments, standalone_mode=False)  # gives back the status of `typer.Exit`
    except InputError as error:
        print(f"cmcgns: {error}", file=sys.stderr)
        return 1
    except typer.Abort:
        return 130
    except Exception as error:  # Typer's own usage errors know how to show themselves
        if hasattr(error, "show"):
            error.show()
            return 2
        raise
    return result if isinstance(result, int) else 0


def _settings(text: str | None, profile: str, step: str, **which: Any) -> dict[str, Any]:
    if text is not None:
        return json.loads(text)
    from cmcgns.pipeline.plan import Plan

    return Plan.load(profile).slice(step, **which)


def _say(text: str) -> None:
    print(text, flush=True)


def _counts(title: str, counts: dict[str, Any]) -> None:
    _say(f"{title}: " + ", ".join(f"{value} {name}" for name, value in counts.items()))


# -- data ----------------------------------------------------------------------------------------------------------


@app.command()
def synthesize(profile: Profile = "demo", settings: SettingsText = None, workers: int = 2) -> None:
    """Write the synthetic world in the six raw layouts, with its truth beside it."""
    from cmcgns.synthetic.synthesize import synthesize as write_world

    paths = Paths(profile)
    values = _settings(settings, profile, "synthesize")
    if not values:
        raise InputError(f"profile {profile!r} has no synthetic world", file="params.yaml")
    counts = write_world(Path(paths.raw), Path(paths.truth).parent, workers=workers, **values)
    _counts("synthetic world", counts)


@app.command()
def doctor(
    raw: Annotated[Path, typer.Argument(help="The folder that holds the downloads.")],
    json_output: Annotated[bool, typer.Option("--json", help="For a machine.")] = False,
) -> None:
    """Say which data sets are there, which version they look like, and what is missing."""
    from cmcgns.reporting.doctor import render
    from cmcgns.sources.doctor import examine

    if not raw.is_dir():
        raise InputError("the folder of downloads does not exist", file=raw)
    findings = examine(raw)
    _say(json.dumps(findings, indent=1, default=str) if json_output else render(findings))
    if any(entry["status"] != "ok" for entry in findings):
        raise typer.Exit(1)


@reports_app.command("extract")
def reports_extract(
    reports: Annotated[Path, typer.Argument(help="Folder of reports, or the zip as downloaded.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write, a row a study.")],
    profile: Annotated[
        str | None, typer.Option(help="A profile of params.yaml; the paper's rules if none.")
    ] = None,
    settings: SettingsText = None,
) -> None:
    """Cut reports into sections and sentences, and filter them."""
    from cmcgns.reports.extract import extract
    from cmcgns.sources.mimic_cxr import find_reports

    values = _settings(settings, profile, "reports") if settings or profile else {}
    _counts("studies", extract(find_reports(reports) or reports, out, **values))


@app.command()
def index(source: Source, profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Read a source's label files into its index table, and match rows and files."""
    from cmcgns.sources.index import build_index

    paths = Paths(profile)
    values = _settings(settings, profile, "index", source=source)
    options = values.pop("options")
    out, unmatched = Path(paths.index(source)), Path(paths.unmatched(source))
    _counts(source, build_index(source, Path(paths.raw), out, unmatched, **values, **options))


@app.command()
def images(
    source: Source, profile: Profile = "demo", settings: SettingsText = None, workers: int = 1
) -> None:
    """Decode a source's frontal images once, into its memory-mapped store."""
    from importlib import import_module

    from cmcgns.images.store import build_store

    paths = Paths(profile)
    values = _settings(settings, profile, "images")
    root = import_module(f"cmcgns.sources.{source}").find(Path(paths.raw))
    index_table, store, table = map(
        Path, (paths.index(source), paths.store(source), paths.store_table(source))
    )
    _counts(source, build_store(index_table, root, store, table, workers=workers, **values))


@app.command()
def split(
    source: Source, scheme: Scheme = "audited", profile: Profile = "demo", settings: SettingsText = None
) -> None:
    """Split a source's usable images into train, valid and test."""
    from cmcgns.pipeline.plan import FILM_GROUPS
    from cmcgns.splits.write import write_split

    paths = Paths(profile)
    write_split(
        source,
        scheme,
        index=Path(paths.index(source)),
        store_table=Path(paths.store_table(source)),
        store=Path(paths.store(source)) if source in FILM_GROUPS else None,
        reports=Path(paths.reports) if source == "mimic_cxr" else None,
        out=Path(paths.split(source, scheme)),
        **_settings(settings, profile, "split", source=source),
    )


@app.command()
def subset(
    source: Source,
    seed: int = 0,
    scheme: Scheme = "audited",
    profile: Profile = "demo",
    settings: SettingsText = None,
) -> None:
    """Rank a source's training images for the nested 1 %, 10 % and 100 % subsets of one seed."""
    from cmcgns.splits.write import write_ranks

    paths = Paths(profile)
    write_ranks(
        source,
        index=Path(paths.index(source)),
        split=Path(paths.split(source, scheme)),
        out=Path(paths.ranks(source, scheme, seed)),
        seed=seed,
        **_settings(settings, profile, "subset", source=source),
    )


@app.command()
def tokenize(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Tokenise every kept report once."""
    from cmcgns.reports.tokens import tokenize_reports

    paths = Paths(profile)
    values = _settings(settings, profile, "tokenize")
    count = tokenize_reports(Path(paths.reports), Path(paths.tokens).parent, **values)
    _say(f"{count} reports tokenised")


@audit_app.command("profile")
def audit_profile(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Audit the splits and pixels that a profile's runs read."""
    from cmcgns.audit.command import render
    from cmcgns.audit.profile import audit_profile as audit

    paths = Paths(profile)
    values = _settings(settings, profile, "audit")
    seeds = values.pop("seeds")
    files = {
        source: {
            "index": paths.index(source),
            "unmatched": paths.unmatched(source),
            "split": paths.split(source, values["scheme"]),
            "store": paths.store(source),
            "store_table": paths.store_table(source),
            "ranks": {
                seed: paths.ranks(source, values["scheme"], seed) for seed in seeds if source != "mimic_cxr"
            },
        }
        for source in values.pop("sources")
    }
    _say(render(*audit(files, **values, out=Path(paths.audit))))


@audit_app.command("runs")
def audit_runs(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Look for copied runs and learning rates that never did their work."""
    from cmcgns.audit.command import render
    from cmcgns.audit.runs import audit_runs as audit

    paths = Paths(profile)
    values = _settings(settings, profile, "audit_runs")
    _say(render(*audit(paths.cell, **values, out=Path(paths.audit_runs))))


@audit_app.command("gate")
def audit_gate(scheme: Scheme = "audited", profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Stop, unless every critical finding of a scheme was accepted with a reason."""
    from cmcgns.audit.gate import pass_gate

    paths = Paths(profile)
    values = _settings(settings, profile, "gate", scheme=scheme)
    notes = pass_gate(Path(paths.audit), scheme=scheme, out=Path(paths.gate(scheme)), **values)
    _say(f"scheme {scheme} passes, {len(notes)} critical findings accepted")


@audit_app.command("page")
def audit_page(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Write the audit's page: verdicts, findings, facts and plots of the splits."""
    from cmcgns.reporting.audit_page import write_audit_page

    paths = Paths(profile)
    values = _settings(settings, profile, "audit")
    scheme = values["scheme"]
    files = {
        source: {
            "split": Path(paths.split(source, scheme)),
            "index": Path(paths.index(source)),
            "ranks": {
                seed: Path(paths.ranks(source, scheme, seed))
                for seed in values["seeds"]
                if source != "mimic_cxr"
            },
        }
        for source in values["sources"]
    }
    out = Path(paths.audit_page)
    write_audit_page(Path(paths.audit), Path(paths.gate(scheme)), files, out)
    _say(str(out))


# -- methods and training ------------------------------------------------------------------------------------------------------


@app.command()
def methods(
    profile: Annotated[str, typer.Option(help="Whose parameters to show.")] = "paper",
    json_output: Annotated[bool, typer.Option("--json", help="For a machine, with every parameter.")] = False,
) -> None:
    """List the arms of the comparison: what they learn from, their presets and where those come from."""
    from cmcgns.pipeline.plan import Plan
    from cmcgns.reporting.methods import as_json, as_table

    settings = Plan.load(profile).settings
    _say(json.dumps(as_json(settings), indent=1)) if json_output else as_table(settings)


@app.command("shape-weights")
def shape_weights(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Train start weights on drawn shapes, for a place without a network."""
    from cmcgns.synthetic.shape_weights import train_shape_weights

    values = _settings(settings, profile, "shape_weights")
    loss = train_shape_weights(**values, out=Path(Paths(profile).shape_weights), progress=_say)
    _say(f"{values['images']} drawings, last loss {loss:.4f}")


@app.command()
def pretrain(
    arm: Annotated[str, typer.Argument(help="A method, or a variant such as cm_cgns-baseline.")],
    phase: Annotated[str, typer.Argument(help="stage1, stage2, ...")],
    start: Annotated[str, typer.Option(help="Weights of the phase before; empty for the first.")] = "",
    scheme: Scheme = "audited",
    code: Annotated[str, typer.Option(help="Fingerprint of the code, for resuming.")] = "",
    checkpoint_minutes: Annotated[float, typer.Option(help="How often to save for resuming.")] = 10,
    profile: Profile = "demo",
    settings: SettingsText = None,
) -> None:
    """Train one phase of one method, resuming where a killed run stopped."""
    from cmcgns.pipeline import gpu
    from cmcgns.training.run import pretrain as train

    values = _settings(settings, profile, "pretrain", arm=arm, phase=phase)
    gpu.claim(values["pretraining"]["devices"])
    paths = Paths(profile)
    files = {
        "store": paths.store("mimic_cxr"),
        "store_table": paths.store_table("mimic_cxr"),
        "index": paths.index("mimic_cxr"),
        "split": paths.split("mimic_cxr", scheme),
    }
    if "text" in values["encoders"]:
        files["tokens"] = paths.tokens
    train(
        arm=arm,
        phase=phase,
        start=Path(start) if start else None,
        files={name: Path(file) for name, file in files.items()},
        settings=values,
        code=code,
        out=Path(paths.phase(arm, phase)),
        checkpoint_minutes=checkpoint_minutes,
        progress=_say,
    )


@app.command("export-trunk")
def export_trunk(
    out: Annotated[Path, typer.Option(help="Safetensors file with torchvision's names.")],
    settings: Annotated[str, typer.Option(help="JSON with arch, initial and seed.")],
    weights: Annotated[str, typer.Option(help="An objective's weights; empty for an initialisation.")] = "",
) -> None:
    """Write the image encoder alone."""
    from cmcgns.training.export import export_trunk as export

    export(weights=Path(weights) if weights else None, out=out, **json.loads(settings))


# -- downstream ----------------------------------------------------------------------------------------------------


@app.command()
def features(trunk: str, source: Source, profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Encode a source's images with a frozen trunk, for linear probes."""
    from cmcgns.evaluation.encode import write_features
    from cmcgns.pipeline import gpu

    gpu.claim()
    paths = Paths(profile)
    write_features(
        trunk=Path(paths.trunk(trunk)),
        store=Path(paths.store(source)),
        store_table=Path(paths.store_table(source)),
        out=Path(paths.features(trunk, source)),
        **_settings(settings, profile, "features"),
    )


@app.command()
def finetune(
    pair: Annotated[Literal[PAIRS], typer.Argument(help="Task and data set, such as detection-rsna.")],
    arm: Annotated[str, typer.Option(help="A method, or a variant such as cm_cgns-baseline.")],
    fraction: Annotated[int, typer.Option(help="Per cent of the training labels.")],
    seed: int = 0,
    scheme: Scheme = "audited",
    for_leakage: Annotated[
        bool, typer.Option(help="The scheme is another than the profile's: a run for the table of leakage.")
    ] = False,
    profile: Profile = "demo",
    settings: SettingsText = None,
) -> None:
    """Train and test one head on one frozen trunk: one run of one cell."""
    from importlib import import_module

    from cmcgns.pipeline import gpu
    from cmcgns.pipeline.plan import Plan

    gpu.claim()
    task, source = pair.split("-", 1)
    paths, trunk = Paths(profile), Plan.trunk(arm, seed)
    files = {
        "trunk": paths.trunk(trunk),
        "store": paths.store(source),
        "store_table": paths.store_table(source),
        "index": paths.index(source),
        "split": paths.split(source, scheme),
        "ranks": paths.ranks(source, scheme, seed),
    }
    if task == "classification":
        files["features"] = paths.features(trunk, source)
    metrics = import_module(f"cmcgns.evaluation.{task}").run_cell(
        source=source,
        fraction=fraction,
        seed=seed,
        files={name: Path(file) for name, file in files.items()},
        settings=_settings(settings, profile, "finetune", pair=pair, fraction=fraction),
        out=Path(paths.cell(arm, pair, fraction, seed, scheme if for_leakage else "")),
    )
    _say(json.dumps(metrics))


def _held_out(paths: Paths, source: str, scheme: str, truth: str) -> dict[str, Path]:
    """What evaluation without a head may read; boxes come from the truth, or from MS-CXR among the raw files."""
    files = {
        "store": paths.store(source),
        "store_table": paths.store_table(source),
        "index": paths.index(source),
        "split": paths.split(source, scheme),
        "tokens": paths.tokens,
        "reports": paths.reports,
        "truth" if truth else "raw": truth or paths.raw,
    }
    return {name: Path(file) for name, file in files.items()}


Truth = Annotated[str, typer.Option(help="Folder of a synthetic world's truth; empty for real data.")]
Weights = Annotated[Path, typer.Option(help="The objective's weights after its last phase.")]


@app.command()
def align(
    kind: Literal["retrieval", "zero_shot", "grounding"],
    arm: str,
    weights: Weights,
    truth: Truth = "",
    scheme: Scheme = "audited",
    profile: Profile = "demo",
    settings: SettingsText = None,
) -> None:
    """Measure what an image-text model knows without a head."""
    from cmcgns.evaluation.alignment import run as measure
    from cmcgns.pipeline import gpu

    gpu.claim()
    paths = Paths(profile)
    values = _settings(settings, profile, "align", kind=kind, arm=arm)
    document = measure(
        kind=kind,
        arm=arm,
        objective=values["class"],
        weights=weights,
        files=_held_out(paths, "chexpert" if kind == "zero_shot" else "mimic_cxr", scheme, truth),
        settings=values["settings"],
        seeds=values["seeds"],
        out=Path(paths.alignment(kind, arm)).parent,
    )
    _say(json.dumps({"n": document["n"], "reason": document["reason"]}))


@figure_app.command("attention")
def figure_attention(
    arm: str,
    weights: Weights,
    truth: Truth = "",
    scheme: Scheme = "audited",
    profile: Profile = "demo",
    settings: SettingsText = None,
) -> None:
    """Draw where sentences look in their radiographs (the paper's Fig. 4)."""
    from cmcgns.pipeline import gpu
    from cmcgns.reporting.figures import attention_figure

    gpu.claim()
    paths = Paths(profile)
    values = _settings(settings, profile, "attention", arm=arm)
    attention_figure(
        objective=values["class"],
        title=values["title"],
        weights=weights,
        files=_held_out(paths, "mimic_cxr", scheme, truth),
        settings=values["settings"],
        out=Path(paths.attention(arm, bool(truth))),
    )


@figure_app.command("tsne")
def figure_tsne(arm: str, profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Draw the trunk's features of CheXpert 5x200 in the plane (the paper's Fig. 5)."""
    from cmcgns.reporting.figures import tsne_figure

    paths = Paths(profile)
    values = _settings(settings, profile, "tsne", arm=arm)
    numbers = tsne_figure(
        features=Path(paths.features(values.pop("trunk"), "chexpert")),
        store_table=Path(paths.store_table("chexpert")),
        index=Path(paths.index("chexpert")),
        out=Path(paths.tsne(arm)),
        **values,
    )
    _say(json.dumps(numbers))


# -- tables --------------------------------------------------------------------------------------------------------


@app.command()
def table(
    name: Annotated[Literal[TABLE_NAMES], typer.Argument(help="One of the paper's tables, or one of ours.")],
    profile: Profile = "demo",
    settings: SettingsText = None,
) -> None:
    """Collect finished runs into a table."""
    from cmcgns.reporting.collect import write

    write(name, Paths(profile), _settings(settings, profile, "table", name=name))


@app.command()
def summary(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Write the numbers of all tables as one JSON document, for `dvc metrics`."""
    from cmcgns.reporting.summary import write_summary

    paths = Paths(profile)
    tables = _settings(settings, profile, "summary")["tables"]
    write_summary([Path(table) for table in tables], Path(paths.audit), Path(paths.summary))
    _say(paths.summary)


@app.command()
def trace(
    what: Annotated[
        str, typer.Argument(help="A cell, 'table1 / CheXpert / 1% / CM-CGNS', or a file that a run made.")
    ],
    profile: Profile = "demo",
    json_output: Annotated[bool, typer.Option("--json", help="W3C PROV-JSON.")] = False,
) -> None:
    """Follow a number down to the hashes of raw files: jobs, settings, code and inputs on the way."""
    from cmcgns.pipeline.plan import Plan
    from cmcgns.pipeline.trace import as_prov, as_text, runs_of

    targets = [what] if what.startswith(("data/", "results/")) else runs_of(Plan.load(profile), what)
    _say(json.dumps(as_prov(profile, targets), indent=1) if json_output else as_text(profile, targets))


@app.command()
def verify(profile: Profile = "demo") -> None:
    """Hash every output of a profile anew and hold it against the ledger; status 1 if one is not what a run wrote."""
    from cmcgns.pipeline.ledger import read
    from cmcgns.pipeline.ledger import verify as check

    found = check(profile)
    for what, files in found.items():
        for file in files:
            _say(f"{what}: {file}")
    _say(
        f"{len(read(profile))} outputs: " + ", ".join(f"{len(files)} {what}" for what, files in found.items())
    )
    if found["changed"] or found["missing"] or found["foreign"]:
        raise typer.Exit(1)


@app.command()
def report(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Write the report page."""
    from cmcgns.reporting.page import write_page

    write_page(Paths(profile), **_settings(settings, profile, "report"))


@app.command()
def reproduce(
    profile: Profile = "demo",
    raw: Annotated[Path | None, typer.Option(help="Where the downloads are.")] = None,
    cores: Annotated[int | None, typer.Option(help="All, if not given.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would run.")] = False,
) -> None:
    """Run everything of a profile that is not done yet, and print the tables."""
    from cmcgns.pipeline.reproduce import reproduce as run_all

    raise typer.Exit(run_all(profile, raw=raw, cores=cores, dry_run=dry_run))
