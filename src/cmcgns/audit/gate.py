"""The gate: which findings stop a run, and which somebody took on with a reason."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmcgns.audit.findings import Finding
from cmcgns.errors import InputError
from cmcgns.files import read_json, write_json

_KEYS = ("check", "source", "reason")


def judge(
    findings: Iterable[Finding], accept: Sequence[Mapping[str, str]]
) -> tuple[list[Finding], list[tuple[Finding, str]]]:
    """The critical findings that nobody accepted, and those accepted, each with the reason.

    Args:
        accept: entries `check, source, reason` (`audit.accept` in params.yaml).

    Raises:
        InputError: an entry lacks one of the three or has another key.
    """
    reasons: dict[tuple[str, str], str] = {}
    for number, entry in enumerate(accept):
        blank = [key for key in _KEYS if not str(entry.get(key) or "").strip()]
        if blank or set(entry) - set(_KEYS):
            raise InputError(
                f"audit.accept, entry {number}: " + (f"{blank[0]} is missing" if blank else "an unknown key"),
                expected="check, source and reason, and nothing else",
                remedy="say why this finding may stand",
            )
        reasons[entry["check"], entry["source"]] = entry["reason"].strip()
    critical = [found for found in findings if found.severity == "critical"]
    blocking = [found for found in critical if (found.check, found.source) not in reasons]
    accepted = [(f, reasons[f.check, f.source]) for f in critical if (f.check, f.source) in reasons]
    return blocking, accepted


def unused(findings: Iterable[Finding], accept: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The entries that no critical finding is accepted by: a word misspelt, or a fault that is mended."""
    critical = {(found.check, found.source) for found in findings if found.severity == "critical"}
    return [entry for entry in accept if (entry["check"], entry["source"]) not in critical]


def pass_gate(
    audit: Path, *, scheme: str, accept: Sequence[Mapping[str, str]], out: Path, measured: bool = False
) -> list[dict[str, Any]]:
    """Write the gate's file if no critical finding of `scheme` stands, or every one was accepted with a reason.

    The file names what was accepted and nothing else, so that a finding of another scheme changes no byte of it and
    nothing trains anew.

    Args:
        measured: the runs are for the table of what leakage costs, which tells the leaks: nothing is stopped.

    Returns:
        What was accepted: check, source, task, count, total, unit, reason.

    Raises:
        InputError: critical findings that nobody accepted, or an entry of `accept` that no finding fits.
    """
    findings = [_finding(entry) for entry in read_json(audit)["findings"] if entry["scheme"] in (scheme, "")]
    blocking, accepted = judge(findings, accept)
    if measured:
        accepted += [(found, "the table of leakage measures it") for found in blocking]
    elif blocking:
        shown = "; ".join(
            f"{f.check} in {f.source}{', ' + f.task if f.task else ''} ({f.split_a or '-'} > {f.split_b or '-'}: "
            f"{f.count:,} of {f.total:,} {f.unit})"
            for f in blocking[:5]
        )
        raise InputError(
            f"the split audit stops the run: {len(blocking)} critical findings under scheme {scheme}: {shown}"
            + (" ..." if len(blocking) > 5 else ""),
            file=audit,
            expected="no critical finding, or an entry of audit.accept for each",
            remedy=f"{blocking[0].remedy}; or name check, source and a reason in audit.accept of params.yaml",
        )
    if not measured and (idle := unused(findings, accept)):
        raise InputError(
            f"audit.accept names {idle[0]['check']} in {idle[0]['source']}, which the audit did not find",
            file=audit,
            remedy="remove the entry, or correct its words",
        )
    notes = [
        {"check": f.check, "source": f.source, "task": f.task, "between": [f.split_a, f.split_b],
         "count": f.count, "total": f.total, "unit": f.unit, "reason": reason}
        for f, reason in accepted
    ]  # fmt: skip
    write_json(out, {"scheme": scheme, "accepted": notes})
    return notes


def _finding(entry: Mapping[str, Any]) -> Finding:
    values = dict(entry)
    return Finding(remedy=values.pop("what_to_do"), ids=tuple(values.pop("ids")), **values)
