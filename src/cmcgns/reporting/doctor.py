"""What `cmcgns doctor` found, as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def render(findings: list[dict[str, Any]]) -> str:
    """A block a source: where it is and which version it looks like, then each count beside the published one."""
    return "\n".join(line for entry in findings for line in _block(entry))


def _block(entry: dict[str, Any]) -> Iterator[str]:
    version = f", version {entry['version']}" if entry["version"] else ""
    yield f"{entry['source']} ({entry['title']}): {entry['status']}{version}"
    if entry["problem"]:
        yield f"  problem: {entry['problem']}"
    if not entry["root"]:
        yield f"  not found; get it from {entry['where']}"
        return
    yield f"  in {entry['root']}"
    expected = entry["expected"] or {}
    for name, found in (entry["counts"] or {}).items():
        published = expected.get(name)
        verdict = "" if published in (None, found) else f"   published: {published:,}"
        yield f"  {name:<30} {found:>10,}{verdict}"
    if files := entry["images"]:
        yield f"  image files: {files['present']:,} of {files['needed']:,} there, {files['without_row']:,} without a label row"
    for name, genuine in (entry["genuine"] or {}).items():
        yield f"  {name}: {'the published file' if genuine else 'not the published file'}"
    for key in ("missing", "optional"):
        for item in entry[key] or []:
            yield f"  {key}: {item}"
