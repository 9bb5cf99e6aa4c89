"""The audit of a profile; `cmcgns.audit.command` has those of anybody's files."""

from __future__ import annotations

from pathlib import Path

from cmcgns.audit.command import audit_app as app
from cmcgns.commands.common import Profile, Scheme, SettingsText, example, say, settings_of
from cmcgns.pipeline.paths import Paths
from cmcgns.progress import progress


@app.command("profile", epilog=example("audit profile --profile demo"))
def audit_profile(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Audit the splits and pixels that a profile's runs read."""
    from cmcgns.audit.command import render
    from cmcgns.audit.profile import audit_profile as audit

    paths = Paths(profile)
    values = settings_of(settings, profile, "audit")
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
    with progress("films") as tick:
        found = audit(files, **values, out=Path(paths.audit), progress=tick)
    say(render(*found))


@app.command("runs", epilog=example("audit runs --profile demo"))
def audit_runs(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Look for copied runs and learning rates that never did their work."""
    from cmcgns.audit.command import render
    from cmcgns.audit.runs import audit_runs as audit

    paths = Paths(profile)
    values = settings_of(settings, profile, "audit_runs")
    say(render(*audit(paths.cell, **values, out=Path(paths.audit_runs))))


@app.command("gate", epilog=example("audit gate --scheme audited --profile demo"))
def audit_gate(scheme: Scheme = "audited", profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Stop, unless every critical finding of a scheme was accepted with a reason."""
    from cmcgns.audit.gate import pass_gate

    paths = Paths(profile)
    values = settings_of(settings, profile, "gate", scheme=scheme)
    notes = pass_gate(Path(paths.audit), scheme=scheme, out=Path(paths.gate(scheme)), **values)
    say(f"scheme {scheme} passes, {len(notes)} critical findings accepted")


@app.command("page", epilog=example("audit page --profile demo"))
def audit_page(profile: Profile = "demo", settings: SettingsText = None) -> None:
    """Write the audit's page: verdicts, findings, facts and plots of the splits."""
    from cmcgns.reporting.audit_page import write_audit_page

    paths = Paths(profile)
    values = settings_of(settings, profile, "audit")
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
    say(str(out))
