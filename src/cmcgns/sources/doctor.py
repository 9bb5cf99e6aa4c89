"""Examine a folder of downloads: what is there, which version it looks like, what is missing and where to get it."""

from pathlib import Path
from types import ModuleType
from typing import Any

from cmcgns.errors import InputError
from cmcgns.files import sha256_file
from cmcgns.sources import NAMES, mimic_cxr, source
from cmcgns.sources.groups import NIH_MAP
from cmcgns.sources.index import NO_FILE, NO_ROW, match
from cmcgns.sources.schema import validate
from cmcgns.sources.versions import SHA256, count, identify


def examine(raw: str | Path) -> list[dict[str, Any]]:
    """One entry per source, in the order of `sources.NAMES`; a source's fault becomes its entry's `problem`.

    Returns:
        Dictionaries with
        `source, title, where`: its name, and where to get it;
        `status`: `missing` (no folder), `incomplete` (see `missing` and `problem`), `unknown version` (complete, but no
            published version has these counts) or `ok`;
        `root, version, label_files`: what was found (None, None, [] when it was not);
        `counts, expected`: what the labels hold, and what the version - or the nearest one - holds;
        `genuine`: file name -> whether its sha256 is the published one, where that is known;
        `images`: `needed, present, missing, without_row` ({} when the labels could not be read);
        `missing, optional`: what to get, and what else would help, in words;
        `problem`: the message of the fault, or None.
    """
    return [_examine_source(name, Path(raw)) for name in NAMES]


def _examine_source(name: str, raw: Path) -> dict[str, Any]:
    module = source(name)
    entry: dict[str, Any] = {
        "source": name, "title": module.TITLE, "where": module.WHERE, "status": "incomplete",
        "root": None, "version": None, "label_files": [], "counts": {}, "expected": {}, "genuine": {},
        "images": {}, "missing": [], "optional": [], "problem": None,
    }  # fmt: skip
    try:
        entry["root"] = module.find(raw)
        if entry["root"] is None:
            return entry | {"status": "missing", "missing": [f"the folder {module.FOLDERS[0]}"]}
        if name == "mimic_cxr" and mimic_cxr.find_reports(raw) is None:
            entry["missing"].append(f"the reports: {mimic_cxr.REPORT_ZIP}, or its folder files")
        _examine_labels(entry, module)
    except InputError as error:
        return entry | {"problem": str(error)}
    if not entry["missing"]:
        entry["status"] = "ok" if entry["version"] else "unknown version"
    return entry


def _examine_labels(entry: dict[str, Any], module: ModuleType) -> None:
    """Fill in what the label files and the list of image files tell."""
    name, root = entry["source"], entry["root"]
    entry["label_files"] = files = module.label_files(root)
    entry["genuine"] = {p.name: sha256_file(p) == SHA256[p.name] for p in files if p.name in SHA256}
    if name == "rsna" and not any(path.name == NIH_MAP for path in files):
        entry["optional"].append(f"{NIH_MAP} (RSNA challenge page): only with it can patients be kept apart")
    labels = validate(name, module.read(root))
    entry["counts"] = count(name, labels)
    entry["version"], entry["expected"] = identify(name, entry["counts"])
    index, rest = match(labels, module.image_files(root))
    entry["images"] = images = {
        "needed": int(labels["frontal"].sum()),
        "present": int(index["frontal"].sum()),
        "missing": int((rest["reason"] == NO_FILE).sum()),
        "without_row": int((rest["reason"] == NO_ROW).sum()),
    }
    if images["missing"]:
        entry["missing"].append(f"{images['missing']:,} of {images['needed']:,} images")
