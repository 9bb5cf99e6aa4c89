"""What a pre-trained model is worth: heads, alignment and figures, one command a step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from cmcgns.commands.common import Profile, Scheme, SettingsText, Source, example, say, settings_of
from cmcgns.pipeline.paths import Paths
from cmcgns.progress import progress
from cmcgns.settings import PAIRS

app = typer.Typer()
figure_app = typer.Typer(no_args_is_help=True, help="The paper's figures 4 and 5.")
app.add_typer(figure_app, name="figure")


@app.command(epilog=example("features cm_cgns chexpert --profile demo"))
def features(trunk: str, source: Source, profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Encode a source's images with a frozen trunk, for linear probes."""
    from cmcgns.evaluation.encode import write_features
    from cmcgns.pipeline import gpu

    gpu.claim()
    paths = Paths(profile)
    with progress(f"images of {source}") as tick:
        write_features(
            trunk=Path(paths.trunk(trunk)),
            store=Path(paths.store(source)),
            store_table=Path(paths.store_table(source)),
            out=Path(paths.features(trunk, source)),
            progress=tick,
            **settings_of(settings, profile, "features"),
        )


@app.command(epilog=example("finetune detection-rsna --arm cm_cgns --fraction 10 --seed 0 --profile demo"))
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
    values = settings_of(settings, profile, "finetune", pair=pair, fraction=fraction)
    with progress(f"epochs of {arm}, at most") as tick:
        metrics = import_module(f"cmcgns.evaluation.{task}").run_cell(
            source=source,
            fraction=fraction,
            seed=seed,
            files={name: Path(file) for name, file in files.items()},
            settings=values,
            out=Path(paths.cell(arm, pair, fraction, seed, scheme if for_leakage else "")),
            callback=lambda epoch, _: tick(epoch + 1, values["head"]["max_epochs"]),
        )
    say(json.dumps(metrics))


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


@app.command(
    epilog=example(
        "align retrieval cm_cgns --weights results/demo/pretrain/cm_cgns/stage2/best.safetensors --truth data/demo/truth"
    )
)
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
    values = settings_of(settings, profile, "align", kind=kind, arm=arm)
    with progress(f"pairs for {kind} of {arm}") as tick:
        document = measure(
            kind=kind,
            arm=arm,
            objective=values["class"],
            weights=weights,
            files=_held_out(paths, "chexpert" if kind == "zero_shot" else "mimic_cxr", scheme, truth),
            settings=values["settings"],
            seeds=values["seeds"],
            out=Path(paths.alignment(kind, arm)).parent,
            tick=tick,
        )
    say(json.dumps({"n": document["n"], "reason": document["reason"]}))


@figure_app.command(
    "attention",
    epilog=example(
        "figure attention cm_cgns --weights results/demo/pretrain/cm_cgns/stage2/best.safetensors --truth data/demo/truth"
    ),
)
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
    values = settings_of(settings, profile, "attention", arm=arm)
    attention_figure(
        objective=values["class"],
        title=values["title"],
        weights=weights,
        files=_held_out(paths, "mimic_cxr", scheme, truth),
        settings=values["settings"],
        out=Path(paths.attention(arm, bool(truth))),
    )


@figure_app.command("tsne", epilog=example("figure tsne cm_cgns --profile demo"))
def figure_tsne(arm: str, profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Draw the trunk's features of CheXpert 5x200 in the plane (the paper's Fig. 5)."""
    from cmcgns.reporting.figures import tsne_figure

    paths = Paths(profile)
    values = settings_of(settings, profile, "tsne", arm=arm)
    numbers = tsne_figure(
        features=Path(paths.features(values.pop("trunk"), "chexpert")),
        store_table=Path(paths.store_table("chexpert")),
        index=Path(paths.index("chexpert")),
        out=Path(paths.tsne(arm)),
        **values,
    )
    say(json.dumps(numbers))
