"""Build a source's index table: read the labels, check them, and match rows and files both ways."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from cmcgns.errors import InputError
from cmcgns.files import sha256_file
from cmcgns.parquet import write_parquet
from cmcgns.sources import source
from cmcgns.sources.csvs import among
from cmcgns.sources.groups import nih_map
from cmcgns.sources.schema import validate
from cmcgns.sources.versions import count, identify

WITH_RSNA_FILMS = ("rsna", "covidx")  # their patients are known through the NIH map only
NO_FILE, NO_ROW = "label row without its file", "file without a label row"


def build_index(
    name: str,
    raw: str | Path,
    out: str | Path,
    unmatched: str | Path,
    *,
    world: Path | None = None,
    max_bad_fraction: float = 0.01,
    **options: Any,
) -> dict[str, int]:
    """Write the index of source `name` to `out` and what did not match to `unmatched`.

    Args:
        raw: the folder of downloads.
        world: the manifest of a synthetic world, which stands for its raw files.
        max_bad_fraction: share of the needed images that may be missing (`sources.max_bad_fraction`).
        options: of the source's `read`.

    Returns:
        Counts of the written index (`versions.count`), and `missing_files` and `files_without_row`.

    Raises:
        InputError: the source is not there, its labels are wrong, or too many of its images are missing.
    """
    module = source(name)
    raw = Path(raw)
    root = module.find(raw)
    if root is None:
        raise InputError(
            f"no folder of {module.TITLE} found",
            file=raw,
            expected=f"one of {', '.join(module.FOLDERS)} (in any case)",
            remedy=f"get it from {module.WHERE}",
        )
    if name in WITH_RSNA_FILMS and options.get("groups") is None:
        options["groups"] = nih_map(raw)
    labels = validate(name, module.read(root, **options))
    version, _ = identify(name, count(name, labels))
    index, rest = match(labels, module.image_files(root))
    _refuse_if_too_few(labels, rest, root, max_bad_fraction)
    validate(name, index)
    counts = count(name, index) | {
        "missing_files": int((rest["reason"] == NO_FILE).sum()),
        "files_without_row": int((rest["reason"] == NO_ROW).sum()),
    }
    version_option = {"version": options["version"]} if "version" in options else {}
    files = module.label_files(root, **version_option)
    if groups := options.get("groups"):
        files = [*files, groups]
    meta = {
        "source": name,
        "version": version or "unknown",
        "label_files": {path.name: sha256_file(path) for path in files},
        "counts": counts,
    }
    write_parquet(index, out, meta)
    write_parquet(rest, unmatched, meta)
    return counts


def match(labels: pd.DataFrame, files: Iterable[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Match label rows and image files both ways.

    Only frontal rows are used later, so only they need a file; laterals stay. A row with an empty path is looked up by
    its file's stem, which is then the image id.

    Args:
        labels: an index table as `read` returns it.
        files: paths of the images present, relative to the source's root.

    Returns:
        The index without the rows whose file is missing, and the table `image_id, path, reason` of all that is unmatched
        (`image_id` is empty for a file without a row).
    """
    present = pd.Series(sorted(files), dtype=str)
    labels = _look_up(labels, present)
    missing = labels["frontal"] & ~among(labels["path"], present)
    extra = present[~among(present, labels["path"])]
    rest = pd.concat(
        [
            labels.loc[missing, ["image_id", "path"]].assign(reason=NO_FILE),
            pd.DataFrame({"image_id": "", "path": extra}).assign(reason=NO_ROW),
        ],
        ignore_index=True,
    )
    return labels[~missing].reset_index(drop=True), rest.astype(str)


def _look_up(labels: pd.DataFrame, present: pd.Series) -> pd.DataFrame:
    if not (labels["path"] == "").any():
        return labels
    stem = present.str.rsplit("/", n=1).str[-1].str.rsplit(".", n=1).str[0]
    by_stem = present.groupby(stem).first()  # of two copies the first is used, the other listed as unmatched
    found = labels["image_id"].map(by_stem).fillna("").astype(str)
    return labels.assign(path=labels["path"].where(labels["path"] != "", found))


def _refuse_if_too_few(labels: pd.DataFrame, rest: pd.DataFrame, root: Path, max_bad_fraction: float) -> None:
    needed = int(labels["frontal"].sum())
    missing = rest[rest["reason"] == NO_FILE]
    if len(missing) <= max_bad_fraction * needed:
        return
    example = missing["path"].iloc[0] or f"{missing['image_id'].iloc[0]}.dcm"
    raise InputError(
        f"{len(missing):,} of {needed:,} images are missing, for example {example}",
        file=root,
        expected=f"at most {max_bad_fraction:.2%} missing",
        remedy="complete the download, or raise sources.max_bad_fraction to go on without them",
    )
