"""What a rule of the graph says of its jobs: a function that Snakemake calls with a job's files, and that gives its document.

The document (`cmcgns.step.load`) is all that a job gets, so what Snakemake knows of a job and what the job reads are one.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cmcgns.files import canonical
from cmcgns.pipeline.audience import COUNTS
from cmcgns.pipeline.fingerprint import code_of
from cmcgns.step import squeeze


def job(
    step: str,
    settings: Callable[[Any], Mapping[str, Any]],
    *,
    also: Callable[[Any], Iterable[str]] = lambda wildcards: (),
    requires: Iterable[str] = (),
    folders: Mapping[str, str] | None = None,
    fills: Mapping[str, str] | None = None,
    sources: Callable[[Any], Iterable[str]] = lambda wildcards: (),
    shows: Mapping[str, str] | None = None,
    downloads: bool = False,
    how: Callable[[Any, int], Mapping[str, Any]] = lambda wildcards, threads: {},
    gpu: int = 0,
) -> Callable[..., str]:
    """A function of Snakemake's wildcards, input, output and threads -> the document of the job.

    Args:
        step: `cmcgns.<module>.<function>`.
        settings: of the wildcards: what the function may read of params.yaml, and its wildcards.
        also: of the wildcards: code that the function does not import by a statement (`fingerprint.code_of`).
        requires: names of inputs that must be there and are not read.
        folders: in which the function finds its files itself: the raw ones.
        sources: of the wildcards: whose data it reads in folders.
        shows: output -> how much it lets see of what it was made of, if less than that itself (`pipeline.audience`).
        downloads: its profile reads them, and not a synthetic world: its files are for their owner alone, but those that show counts.
        fills: folders that it fills, whose files no other rule names.
        how: of wildcards and threads: what changes no byte of the outputs.
        gpu: how many.
    """
    requires = set(requires)

    def document(wildcards: Any, input: Any, output: Any, threads: int) -> str:
        named = {name: _files(input[name]) for name in input.keys()}  # noqa: SIM118 - Snakemake's lists are not dictionaries
        extra = sorted(also(wildcards))
        return canonical(
            {
                "step": step,
                "inputs": {k: v for k, v in named.items() if v and k not in requires},
                "requires": {k: v for k, v in named.items() if v and k in requires},
                "folders": dict(folders or {}),
                "fills": dict(fills or {}),
                "sources": sorted(sources(wildcards)),
                "shows": dict(shows or {}),
                "private": downloads and any((shows or {}).get(name) != COUNTS for name in output.keys()),  # noqa: SIM118
                "outputs": {name: _files(output[name]) for name in output.keys()},  # noqa: SIM118
                "settings": settings(wildcards),
                "how": how(wildcards, threads),
                "also": extra,
                "code": code_of(step, extra),
                "gpu": gpu,
            }
        )

    return document


def _files(value: Any) -> str | list[str]:
    return str(value) if isinstance(value, str) else squeeze([str(file) for file in value])
