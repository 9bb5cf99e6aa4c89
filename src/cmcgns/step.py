"""The one entry of all jobs: a job is a JSON document that names a function, its files, its settings and its code.

A rule writes the document (`pipeline.document`), `pipeline.record` runs it and notes how it went; between the two there is
this module, which belongs to the code of every job. The function is called with keywords only: each file under the rule's
name for it, each setting under its own. It has no other way to a file or a setting.
"""

import json
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from cmcgns.errors import InputError

GIVEN = (
    "inputs",
    "folders",
    "fills",
    "outputs",
    "settings",
    "how",
)  # what of a document a function is called with
FILES = ("inputs", "folders", "fills", "outputs")


def load(document: str) -> dict[str, Any]:
    """A job from its document.

    Keys: `step`, a function of this package; `inputs`, `outputs`: name -> file, or list of files; `requires`: files that must
    be there and are not read; `folders`: folders in which the function finds its files itself; `fills`: folders that it fills; `settings`, all that it may
    read of params.yaml, and how its wildcards are set; `how`: what changes no byte of the outputs, such as workers;
    `code`: fingerprint; `also`: modules and data files that its code consists of beside what the function imports; `gpu`: how
    many GPUs, each with a process of its own; `sources`, `shows`: see `pipeline.audience`;
    `private`: its files are for their owner alone.

    Raises:
        InputError: it is no job.
    """
    try:
        job = json.loads(document)
        job = {"step": job["step"], "code": job["code"]} | {k: job.get(k) or {} for k in (*GIVEN, "requires")} | {
            "also": job.get("also") or [], "gpu": job.get("gpu") or 0,
            "sources": job.get("sources") or [], "shows": job.get("shows") or {}, "private": bool(job.get("private")),
        }  # fmt: skip
        for kind in ("inputs", "outputs", "requires"):
            job[kind] = {name: expand(value) for name, value in job[kind].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"not a job ({type(error).__name__}: {error})",
            expected="a JSON document with step, inputs, outputs, settings and code",
            remedy="`cmcgns step --show FILE` prints the one that makes a file",
        ) from None
    if not job["step"].startswith("cmcgns."):
        raise InputError(f"{job['step']!r} is no step", expected="a function of the package cmcgns")
    return job


def squeeze(files: list[str]) -> list[str]:
    """Files as texts `<letters in common with the file before>:<rest>`; a command line ends at 128 KiB, 1,500 names do not."""
    short, before = [], ""
    for file in files:
        common = next((i for i, (a, b) in enumerate(zip(file, before, strict=False)) if a != b), None)
        common = min(len(file), len(before)) if common is None else common
        short.append(f"{common}:{file[common:]}")
        before = file
    return short


def expand(value: str | list[str]) -> str | list[str]:
    """What `squeeze` was given; a single file stays as it is."""
    if isinstance(value, str):
        return value
    files: list[str] = []
    for text in value:
        common, _, rest = text.partition(":")
        files.append((files[-1] if files else "")[: int(common)] + rest)
    return files


def call(document: str, **watch: Any) -> Any:
    """Run the function of a job and return what it returns.

    Args:
        watch: what looks on, such as `progress`; the function gets those that it has a parameter for.
    """
    job = load(document)
    module, _, name = job["step"].rpartition(".")
    function = getattr(import_module(module), name)
    given = {name: value for kind in GIVEN for name, value in job[kind].items()}
    for name in (name for kind in FILES for name in job[kind]):
        value = given[name]
        given[name] = Path(value) if isinstance(value, str) else [Path(file) for file in value]
    wanted = signature(function).parameters
    return function(**given, **{name: value for name, value in watch.items() if name in wanted})


if __name__ == "__main__":  # one of several processes of a training on several devices
    call(sys.argv[1], identity=sys.argv[2])
