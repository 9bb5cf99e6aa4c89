"""Write the whole world: six raw layouts, and beside them the truth."""

import gzip
import hashlib
import multiprocessing
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from cmcgns.errors import InputError
from cmcgns.files import sha256_file, write_json, write_text
from cmcgns.parquet import write_parquet
from cmcgns.synthetic.files import write_bytes
from cmcgns.synthetic.films import Film, Shot, shoot
from cmcgns.synthetic.layouts.chexpert import plan_chexpert
from cmcgns.synthetic.layouts.covidx import plan_covidx
from cmcgns.synthetic.layouts.mimic_cxr import REPORTS, plan_mimic
from cmcgns.synthetic.layouts.object_cxr import plan_object_cxr
from cmcgns.synthetic.layouts.plan import Plan
from cmcgns.synthetic.layouts.rsna import plan_rsna
from cmcgns.synthetic.layouts.siim import plan_siim
from cmcgns.synthetic.truth import findings_table, images_table, sentences_table
from cmcgns.synthetic.world import make_population

MARK = "SYNTHETIC.txt"
SIZES = {
    "mimic_studies": 2000,
    "chexpert_train": 1500,
    "chexpert_valid": 202,
    "rsna": 600,
    "covidx_train": 600,
    "covidx_test": 100,
    "siim": 500,
    "object_train": 400,
    "object_dev": 100,
}
NIH_RATES = {"Pneumothorax": 0.22, "Support Devices": 0.10}
NIH_PER_PATIENT = (0.45, 0.3, 0.15, 0.1)


def synthesize_world(
    *, raw: Path, manifest: Path, images: Path, findings: Path, sentences: Path, **options: Any
) -> dict[str, int]:
    """The step `synthesize`: the world below `raw`, and its truth in the four files, which lie in one folder."""
    written = synthesize(raw, manifest.parent, **options)["sources"]
    return {name: source["images"] for name, source in written.items()}


def synthesize(
    raw: str | Path,
    truth: str | Path,
    *,
    sizes: dict[str, int] | None = None,
    seed: int = 0,
    workers: int = 2,
    image_long_side: int = 288,
    omission: float = 0.03,
    conspicuity: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Draw the synthetic world and write it as if it had been downloaded.

    Args:
        raw: folder of downloads to write; a folder there that we did not write is never touched.
        truth: folder of the truth tables; its `manifest.json` is written last and marks completion.
        sizes: counts that differ from `SIZES`. For CheXpert they are frontal films, laterals come on top.
        workers: processes; the bytes do not depend on it.
        image_long_side: pixels of the JPEGs' longer side (MIMIC, CheXpert, Object-CXR).
        omission: chance that a report does not mention a finding.
        conspicuity: how much plainer findings are than in a clinic (2: twice as dense, half as wide again), so that small
            networks at low resolution can see them.
        progress: called with (films drawn, films in all).

    Returns:
        The manifest: settings, counts, the sha256 of every label file and one digest per source over all its files.
    """
    raw, truth = Path(raw), Path(truth)
    counts = _sizes(sizes or {})
    plans = plan_world(counts, seed, image_long_side, omission)
    _clear(raw, truth, [plan.folder for plan in plans] + [REPORTS])
    shots = _shoot_all(plans, raw, seed, workers, conspicuity, progress)
    manifest: dict[str, Any] = {
        "settings": {
            "sizes": counts,
            "seed": seed,
            "image_long_side": image_long_side,
            "omission": omission,
            "siim_dialect": "stage1",
            "missing": 0,
            "conspicuity": conspicuity,
        },
        "sources": {},
    }
    for plan in plans:
        manifest["sources"][plan.source] = _finish(plan, shots[plan.source], raw)
    write_parquet(images_table(plans, shots), truth / "images.parquet")
    write_parquet(findings_table(plans, shots), truth / "findings.parquet")
    write_parquet(sentences_table(plans), truth / "sentences.parquet")
    write_json(truth / "manifest.json", manifest)
    return manifest


def plan_world(counts: dict[str, int], seed: int, size: int, omission: float) -> list[Plan]:
    """Plan all six sources; RSNA, SIIM and COVIDx share the NIH population."""
    n_nih = round(1.15 * (counts["rsna"] + 0.6 * counts["siim"])) + 10
    n_nih = max(n_nih, counts["siim"] + 1)
    nih = make_population("nih", n_nih, seed=seed, per_patient=NIH_PER_PATIENT, rates=NIH_RATES)
    rsna = plan_rsna(nih, counts["rsna"], seed=seed)
    return [
        plan_mimic(counts["mimic_studies"], seed=seed, size=size, omission=omission),
        plan_chexpert(
            counts["chexpert_train"], counts["chexpert_valid"], seed=seed, size=size, omission=omission
        ),
        rsna,
        plan_covidx(counts["covidx_train"], counts["covidx_test"], rsna.films[: counts["rsna"]], seed=seed),
        plan_siim(nih, counts["siim"], seed=seed),
        plan_object_cxr(counts["object_train"], counts["object_dev"], seed=seed, size=size),
    ]


def _sizes(given: dict[str, int]) -> dict[str, int]:
    if unknown := sorted(set(given) - set(SIZES)):
        raise InputError(f"unknown size {unknown[0]!r}", expected=f"one of {', '.join(SIZES)}")
    counts = {**SIZES, **given}
    for name, count in counts.items():
        if count < 8:
            raise InputError(f"size {name} is {count}", expected="at least 8")
    return counts


def _clear(raw: Path, truth: Path, folders: list[str]) -> None:
    """Make room, but only where our own mark stands: real downloads are never deleted."""
    (truth / "manifest.json").unlink(missing_ok=True)
    present = [raw / name for name in folders if (raw / name).exists()]
    if present and not (raw / MARK).exists():
        raise InputError(
            "this folder was not written by synthesize and is left alone",
            file=present[0],
            remedy="choose another folder for the synthetic world",
        )
    write_text(
        raw / MARK, "Everything below this folder was drawn and written by a program. No patient is real.\n"
    )
    for folder in present:
        shutil.rmtree(folder)


def _shoot_all(
    plans: list[Plan],
    raw: Path,
    seed: int,
    workers: int,
    conspicuity: float,
    progress: Callable[[int, int], None] | None,
) -> dict[str, list[Shot]]:
    jobs = [(film, str(raw / plan.folder)) for plan in plans for film in plan.films]
    work = partial(_shoot_job, seed=seed, conspicuity=conspicuity)
    if workers <= 1:
        shots = _counted(map(work, jobs), len(jobs), progress)
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
            shots = _counted(pool.map(work, jobs, chunksize=32), len(jobs), progress)
    done, start = {}, 0
    for plan in plans:
        done[plan.source] = shots[start : start + len(plan.films)]
        start += len(plan.films)
    return done


def _counted(shots: Iterable[Shot], total: int, progress: Callable[[int, int], None] | None) -> list[Shot]:
    found = []
    for shot in shots:
        found.append(shot)
        if progress:
            progress(len(found), total)
    return found


def _shoot_job(job: tuple[Film, str], seed: int, conspicuity: float) -> Shot:
    film, root = job
    return shoot(film, Path(root), seed, conspicuity)


def _finish(plan: Plan, shots: list[Shot], raw: Path) -> dict[str, Any]:
    """Write what is no image; counts and digests of the source. Its digest covers images, label files and reports."""
    images = {f"{plan.folder}/{f.path}": s.sha256 for f, s in zip(plan.films, shots, strict=True)}
    labels, reports = _write_texts(raw, plan.label_files(shots)), _write_texts(raw, plan.reports)
    lines = [f"{path} {digest}\n" for path, digest in sorted({**images, **labels, **reports}.items())]
    return {
        "folder": plan.folder,
        "images": len(images),
        "reports": len(reports),
        "label_files": labels,
        "digest": hashlib.sha256("".join(lines).encode()).hexdigest(),
    }


def _write_texts(raw: Path, texts: dict[str, str]) -> dict[str, str]:
    """Write files below `raw`, those that end in .gz compressed; returns their hashes."""
    for name, text in texts.items():
        data = text.encode()
        write_bytes(raw / name, gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return {name: sha256_file(raw / name) for name in texts}
