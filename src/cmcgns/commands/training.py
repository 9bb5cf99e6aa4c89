"""The methods, and their pre-training: one command a step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from cmcgns.commands.common import Profile, Scheme, SettingsText, example, say, say_json, settings_of
from cmcgns.pipeline.paths import Paths
from cmcgns.progress import progress
from cmcgns.settings import TRACKERS

app = typer.Typer()


@app.command(epilog=example("methods --profile demo"))
def methods(
    profile: Annotated[str, typer.Option(help="Whose parameters to show.")] = "paper",
    json_output: Annotated[bool, typer.Option("--json", help="For a machine, with every parameter.")] = False,
) -> None:
    """List the arms of the comparison: what they learn from, their presets and where those come from."""
    from cmcgns.pipeline.plan import Plan
    from cmcgns.reporting.methods import as_json, as_table

    settings = Plan.load(profile).settings
    say_json(as_json(settings)) if json_output else as_table(settings)


@app.command("shape-weights", epilog=example("shape-weights --profile science"))
def shape_weights(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Train start weights on drawn shapes, for a place without a network."""
    from cmcgns.pipeline import gpu
    from cmcgns.synthetic.shape_weights import train_shape_weights

    gpu.claim()
    values = settings_of(settings, profile, "shape_weights")
    loss = train_shape_weights(**values, out=Path(Paths(profile).shape_weights), progress=say)
    say(f"{values['images']} drawings, last loss {loss:.4f}")


@app.command(epilog=example("pretrain cm_cgns stage1 --profile demo"))
def pretrain(
    arm: Annotated[str, typer.Argument(help="A method, or a variant such as cm_cgns-baseline.")],
    phase: Annotated[str, typer.Argument(help="stage1, stage2, ...")],
    start: Annotated[str, typer.Option(help="Weights of the phase before; empty for the first.")] = "",
    scheme: Scheme = "audited",
    code: Annotated[str, typer.Option(help="Fingerprint of the code, for resuming.")] = "",
    checkpoint_minutes: Annotated[float, typer.Option(help="How often to save for resuming.")] = 10,
    profile: Profile = "demo",
    tracking: Annotated[Literal[TRACKERS], typer.Option(help="Live logs beside history.csv.")] = "none",
    tracking_folder: Path = Path("logs/tracking"),
    settings: SettingsText = None,
) -> None:
    """Train one phase of one method, resuming where a killed run stopped."""
    from cmcgns.pipeline import gpu
    from cmcgns.training.run import pretrain as train
    from cmcgns.training.trackers import tracker

    values = settings_of(settings, profile, "pretrain", arm=arm, phase=phase)
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
    run_name = f"{profile}/{arm}/{phase}"
    with (
        tracker(tracking, tracking_folder, run=run_name, settings=values, code=code, warn=say) as log,
        progress(f"batches of {arm} {phase}") as tick,
    ):
        train(
            arm=arm,
            phase=phase,
            start=Path(start) if start else None,
            files={name: Path(file) for name, file in files.items()},
            settings=values,
            code=code,
            out=Path(paths.phase(arm, phase)),
            checkpoint_minutes=checkpoint_minutes,
            progress=say,
            tick=tick,
            log=log,
        )


@app.command(
    "export-trunk",
    epilog=example(
        "export-trunk --weights results/demo/pretrain/cm_cgns/stage2/best.safetensors --out trunk.safetensors"
        """ --settings '{"arch": "resnet10", "initial": "random", "seed": 0}'"""
    ),
)
def export_trunk(
    out: Annotated[Path, typer.Option(help="Safetensors file with torchvision's names.")],
    settings: Annotated[str, typer.Option(help="JSON with arch, initial and seed.")],
    weights: Annotated[str, typer.Option(help="An objective's weights; empty for an initialisation.")] = "",
) -> None:
    """Write the image encoder alone."""
    from cmcgns.training.export import export_trunk as export

    export(weights=Path(weights) if weights else None, out=out, **json.loads(settings))


@app.command(epilog=example("export cm_cgns --to timm --profile demo"))
def export(
    method: Annotated[str, typer.Argument(help="A method, or a variant such as cm_cgns-baseline.")],
    to: Annotated[Literal["torchvision", "timm", "huggingface"], typer.Option(help="Whose names.")],
    profile: Profile = "demo",
    out: Annotated[Path | None, typer.Option(help="results/<profile>/export/... if not given.")] = None,
) -> None:
    """Write a pre-trained model for use in another library, with a model card; nothing is uploaded."""
    from cmcgns.pipeline.plan import Plan
    from cmcgns.reporting.model_card import write_card
    from cmcgns.training.take_away import export_model

    plan = Plan.load(profile)
    folder = out or Path(plan.paths.results, "export", method, to)
    code = export_model(plan, method, to, folder)
    write_card(plan, method, to, code, folder)
    say(f"{folder}\n\n{code}")
