"""The list of runs, and for each step exactly the settings it may read and the code it consists of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from cmcgns.pipeline.fingerprint import fingerprint
from cmcgns.pipeline.paths import Paths
from cmcgns.settings import Settings, canonical, load

TABLES = {1: "classification", 2: "detection", 3: "segmentation"}

# What stage 1 neither builds nor computes: changing it must not run stage 1 again.
STAGE2_ONLY = {"mask_unit", "mask_ratio", "mask_in_eval", "lambda_re", "stage2_losses"}

# The code of a step: its modules; what they import in the package counts too.
MODULES = {
    "synthesize": ("cmcgns.synthetic.synthesize",),
    "reports": ("cmcgns.reports.extract",),
    "index": ("cmcgns.sources.index",),
    "images": ("cmcgns.images.store",),
    "split": ("cmcgns.splits.write",),
    "tokenize": ("cmcgns.reports.tokens",),
    "pretrain": ("cmcgns.training.run",),
    "export_trunk": ("cmcgns.training.export",),
    "features": ("cmcgns.evaluation.encode",),
    "classification": ("cmcgns.evaluation.classification",),
    "detection": ("cmcgns.evaluation.detection",),
    "segmentation": ("cmcgns.evaluation.segmentation",),
    "table": ("cmcgns.reporting.tables",),
    "report": ("cmcgns.reporting.page",),
}


@dataclass(frozen=True)
class Cell:
    """One fine-tuning run: a cell of a table under one seed."""

    method: str
    pair: str
    fraction: int
    seed: int

    @property
    def task(self) -> str:
        return self.pair.split("-")[0]

    @property
    def source(self) -> str:
        return self.pair.split("-")[1]


@dataclass(frozen=True)
class Plan:
    """What one profile runs."""

    settings: Settings

    @classmethod
    def load(cls, profile: str, params: str | Path = "params.yaml") -> Plan:
        return cls(load(params, profile))

    @property
    def paths(self) -> Paths:
        return Paths(self.settings.profile)

    @property
    def scheme(self) -> str:
        return self.settings.splits.scheme

    def cells(self) -> Iterator[Cell]:
        """Every fine-tuning run of the profile."""
        d = self.settings.downstream
        for method in d.methods:
            for pair in d.pairs:
                for fraction in d.fractions:
                    for seed in d.seeds:
                        yield Cell(method, pair, fraction, seed)

    def sources(self) -> list[str]:
        """The sources that the profile's runs read."""
        used = {pair.split("-")[1] for pair in self.settings.downstream.pairs}
        if any(self.phases(m) for m in self.settings.downstream.methods):
            used.add("mimic_cxr")
        return sorted(used)

    def phases(self, method: str) -> list[str]:
        """The pre-training phases of a method; none for an initialisation."""
        return list(self.settings.cm_cgns.training) if method == "cm_cgns" else []

    def start(self, method: str, phase: str) -> str | None:
        """The weights a phase starts from: those the phase before left, or None."""
        phases = self.phases(method)
        i = phases.index(phase)
        if i == 0:
            return None
        return f"{self.paths.phase(method, phases[i - 1])}/{self.settings.cm_cgns.stage2_init}.safetensors"

    def final(self, trunk: str) -> str | None:
        """The weights that a trunk is taken from, or None for an initialisation."""
        phases = self.phases(trunk)
        if not phases:
            return None
        return (
            f"{self.paths.phase(trunk, phases[-1])}/{self.settings.pretraining.final_checkpoint}.safetensors"
        )

    @staticmethod
    def trunk(method: str, seed: int | str) -> str:
        """The trunk a run stands on. The seed is the whole of a random start, so each run has its own."""
        return f"random-seed{seed}" if method == "random" else method

    def slice(self, step: str, **which: Any) -> dict[str, Any]:
        """The settings that a step may read, as plain JSON values."""
        return getattr(self, f"_{step}")(**which)

    def params(self, step: str, **which: Any) -> str:
        """The canonical text of a step's settings: what Snakemake records and the command receives."""
        return canonical(self.slice(step, **which))

    def code(self, step: str, method: str | None = None, source: str | None = None) -> str:
        """The fingerprint of the code a step runs."""
        extra = [f"cmcgns.objectives.{method}"] if method and self.phases(method) else []
        extra += [f"cmcgns.sources.{source}"] if source else []
        return _code(step, *extra)

    # -- one slice a step ------------------------------------------------------------------------------------------

    def _json(self, *sections: str) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include=set(sections))

    def _synthesize(self) -> dict[str, Any]:
        return self._json("synthetic")["synthetic"] or {}

    def _reports(self) -> dict[str, Any]:
        return {k: v for k, v in self._json("reports")["reports"].items() if k != "max_tokens"}

    def _index(self, source: str) -> dict[str, Any]:
        s = self.settings.sources
        own = {
            "covidx": {"version": s.covidx_version, "groups": s.rsna_groups},
            "rsna": {"groups": s.rsna_groups},
            "object_cxr": {"polygon_box": s.polygon_box},
        }
        return {"max_bad_fraction": s.max_bad_fraction, "options": own.get(source, {})}

    def _images(self) -> dict[str, Any]:
        return {
            "size": self.settings.images.store_size,
            "max_bad_fraction": self.settings.sources.max_bad_fraction,
        }

    def _split(self, source: str) -> dict[str, Any]:
        s, options = self.settings.splits, {}
        if source == "chexpert":
            options = {"valid_images": s.chexpert_valid_images}
        elif source == "covidx":
            options = {"valid_fraction": s.covidx_valid_fraction}
        elif source == "mimic_cxr":
            options = {"merge_test_into_valid": s.merge_test_into_valid}
        return {"seed": s.seed, "options": options}

    def _subset(self, source: str) -> dict[str, Any]:
        return {"siim_subset_of": self.settings.splits.siim_subset_of} if source == "siim" else {}

    def _tokenize(self) -> dict[str, Any]:
        return {
            "encoder": self._json("encoders")["encoders"]["text"],
            "max_tokens": self.settings.reports.max_tokens,
        }

    def _pretrain(self, method: str, phase: str) -> dict[str, Any]:
        whole = self._json("encoders", "pretraining", "cm_cgns")
        general = {
            k: v
            for k, v in whole["pretraining"].items()
            if k not in ("final_checkpoint", "checkpoint_minutes")
        }
        images = {"size": self.settings.images.size, "resize": self.settings.images.resize}
        objective = self.settings.objective()
        return {
            "encoders": whole["encoders"],
            "pretraining": general,
            "images": images,
            "training": whole["cm_cgns"]["training"][phase],
            "objective": {k: v for k, v in objective.items() if phase != "stage1" or k not in STAGE2_ONLY},
        }

    def _export_trunk(self, trunk: str) -> dict[str, Any]:
        initial = self.settings.downstream.imagenet_weights if trunk == "imagenet" else "random"
        seed = int(trunk.removeprefix("random-seed")) if trunk.startswith("random") else 0
        return {"arch": self.settings.encoders.image.arch, "initial": initial, "seed": seed}

    def _features(self) -> dict[str, Any]:
        c = self.settings.downstream.classification
        return {
            "arch": self.settings.encoders.image.arch,
            "size": self.settings.images.size,
            "resize": self.settings.images.resize,
            "views": c.views,
            "augmentation": c.augmentation,
            "seed": self.settings.splits.seed,
            "threads": self.settings.downstream.threads,
        }

    def _finetune(self, pair: str, fraction: int) -> dict[str, Any]:
        d = self.settings.downstream
        return {
            "arch": self.settings.encoders.image.arch,
            "size": self.settings.images.size,
            "resize": self.settings.images.resize,
            "precision": d.precision,
            "bootstrap": d.bootstrap if pair.startswith("classification") else 0,
            "threads": d.threads,
            "head": self.settings.head(pair, fraction),
        }

    def _table(self, number: int) -> dict[str, Any]:
        d = self._json("downstream")["downstream"]
        pairs = [pair for pair in d["pairs"] if pair.startswith(TABLES[number])]
        return {"pairs": pairs} | {key: d[key] for key in ("methods", "fractions", "seeds")}

    def _report(self) -> dict[str, Any]:
        return {"methods": [[m, p] for m in self.settings.downstream.methods for p in self.phases(m)]}

    def report_files(self) -> list[Path]:
        """The reports' zip, if they lie there as downloaded; a folder's many files are taken as never changed."""
        from cmcgns.sources.mimic_cxr import find_reports

        found = find_reports(Path(self.paths.raw))
        return [found] if found and found.is_file() else []

    def label_files(self, source: str) -> list[Path]:
        """The label files that a source's index is made from, those of them that are there now."""
        from cmcgns.sources.groups import nih_map
        from cmcgns.sources.index import WITH_RSNA_FILMS

        module, raw = import_module(f"cmcgns.sources.{source}"), Path(self.paths.raw)
        root = module.find(raw)
        if root is None:
            return []
        version = {"version": self.settings.sources.covidx_version} if source == "covidx" else {}
        files = module.label_files(root, **version)
        if source in WITH_RSNA_FILMS:
            chosen = self.settings.sources.rsna_groups or nih_map(raw)
            files += [Path(chosen)] if chosen else []
        return list(dict.fromkeys(files))


@cache
def _code(step: str, *extra: str) -> str:
    return fingerprint(*MODULES[step], *extra)
