"""The methods of the comparison, and what they have learnt."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cmcgns.commands.common import ForHolders, Profile, example, say, say_json

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


@app.command(epilog=example("export cm_cgns --to timm --profile demo"))
def export(
    method: Annotated[str, typer.Argument(help="A method, or a variant such as cm_cgns-baseline.")],
    to: Annotated[Literal["torchvision", "timm", "huggingface"], typer.Option(help="Whose names.")],
    profile: Profile = "demo",
    out: Annotated[Path | None, typer.Option(help="results/<profile>/export/... if not given.")] = None,
    for_holders: ForHolders = False,
) -> None:
    """Write a pre-trained model for use in another library, with a model card; nothing is uploaded."""
    from cmcgns.pipeline.audience import require
    from cmcgns.pipeline.plan import Plan
    from cmcgns.reporting.model_card import write_card
    from cmcgns.training.take_away import export_model

    plan = Plan.load(profile)
    if Path(plan.paths.trunk(method)).exists():
        require(plan.paths.trunk(method), profile, for_holders)
    folder = out or Path(plan.paths.results, "export", method, to)
    code = export_model(plan, method, to, folder)
    write_card(plan, method, to, code, folder)
    say(f"{folder}\n\n{code}")
