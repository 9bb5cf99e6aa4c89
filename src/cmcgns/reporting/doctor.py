"""What `cmcgns doctor` found, as text."""

from __future__ import annotations

from typing import Any


def render(findings: list[dict[str, Any]]) -> str:
    """One block a source: found or not, its version, and each count that differs from what it should be."""
    return "\n".join(line for entry in findings for line in _block(entry))


def _block(entry: dict[str, Any]) -> list[str]:
    lines = [f"{entry['source']}: {entry['status']}"]
    lines += [
        f"  {key}: {value}" for key, value in entry.items() if key not in ("source", "status") and value
    ]
    return lines
