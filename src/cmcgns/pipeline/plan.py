"""The list of runs, and for each step exactly the settings it may read and the code it consists of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from cmcgns.errors import InputError
from cmcgns.files import canonical
from cmcgns.methods import METHODS
from cmcgns.pipeline.fingerprint import fingerprint
from cmcgns.pipeline.paths import Paths
from cmcgns.settings import Settings, load_all

TABLES = {"1": "classification", "2": "detection", "3": "segmentation"}

# Sources that tell no patients (RSNA: without the public map) or have films under several names (COVIDx), so that scheme
# audited looks at their pixels.
FILM_GROUPS = ("rsna", "covidx", "siim", "object_cxr")
KINDS = ("retrieval", "zero_shot", "grounding")

# The code of a step: its modules; what they import in the package counts too.
MODULES = {
    "synthesize": ("cmcgns.synthetic.synthesize",),
    "reports": ("cmcgns.reports.extract",),
    "index": ("cmcgns.sources.index",),
    "images": ("cmcgns.images.store",),
    "split": ("cmcgns.splits.write",),
    "tokenize": ("cmcgns.reports.tokens",),
    "audit": ("cmcgns.audit.profile",),
    "gate": ("cmcgns.audit.gate",),
    "audit_page": ("cmcgns.reporting.audit_page",),
    "audit_runs": ("cmcgns.audit.runs",),
    "shape_weights": ("cmcgns.synthetic.shape_weights",),
    "pretrain": ("cmcgns.training.run",),
    "export_trunk": ("cmcgns.training.export",),
    "features": ("cmcgns.evaluation.encode",),
    "classification": ("cmcgns.evaluation.classification",),
    "detection": ("cmcgns.evaluation.detection",),
    "segmentation": ("cmcgns.evaluation.segmentation",),
    "align": ("cmcgns.evaluation.alignment",),
    "figure": ("cmcgns.reporting.figures",),
    "table": ("cmcgns.reporting.tables",),
    "alignment": ("cmcgns.reporting.alignment_tables",),
    "compute": ("cmcgns.reporting.compute",),
    "leakage": ("cmcgns.reporting.leakage",),
    "comparisons": ("cmcgns.reporting.comparisons",),
    "ranks": ("cmcgns.reporting.ranks",),
    "claims": ("cmcgns.reporting.claims",),
    "summary": ("cmcgns.reporting.summary",),
    "report": ("cmcgns.reporting.page",),
}


@dataclass(frozen=True)
class Cell:
    """One fine-tuning run: a cell of a table under one seed. `arm` is a method, or a variant `<method>-<name>`.

    `other_scheme` names the split scheme of a run for the table of leakage, if it is not the profile's.
    """

    arm: str
    pair: str
    fraction: int
    seed: int
    other_scheme: str = ""

    @property
    def task(self) -> str:
        return self.pair.split("-")[0]

    @property
    def source(self) -> str:
        return self.pair.split("-")[1]


@dataclass(frozen=True)
class Plan:
    """What one profile runs. `paper` holds the paper's settings, which the report compares the profile's with."""

    settings: Settings
    paper: Settings | None = None

    @classmethod
    def load(cls, profile: str, params: str | Path = "params.yaml") -> Plan:
        profiles = load_all(params, profile)
        return cls(profiles[profile], profiles.get("paper"))

    @property
    def paths(self) -> Paths:
        return Paths(self.settings.profile)

    @property
    def scheme(self) -> str:
        return self.settings.splits.scheme

    def variants(self) -> dict[str, dict[str, Any]]:
        """The arms that are a method with a changed objective, and what each changes."""
        s, found = self.settings, {}
        if s.ablation.pairs:
            found |= {f"{s.ablation.of}-{name}": change for name, change in s.ablation.variants.items()}
        if s.sensitivity.pairs:
            now = s.objective(s.sensitivity.of)
            for key, values in s.sensitivity.grid.items():
                found |= {
                    f"{s.sensitivity.of}-{key}={str(v).lower()}": {key: v} for v in values if v != now[key]
                }
        return found

    def arms(self) -> list[str]:
        """The methods of the profile, then the variants."""
        d, s = self.settings.downstream, self.settings
        of = [section.of for section in (s.ablation, s.sensitivity) if section.pairs]
        return list(dict.fromkeys([*d.methods, *of, *self.variants()]))

    def cells(self) -> Iterator[Cell]:
        """Every fine-tuning run of the profile, each once."""
        groups = [(group, "") for table in self.cell_tables() for group in self.groups(table)]
        groups += [
            (group, "" if scheme == self.scheme else scheme)
            for scheme in self.leakage_schemes()
            for group in self.groups("leakage")
        ]
        for group, other_scheme in dict.fromkeys(groups):
            for seed in self.settings.downstream.seeds:
                yield Cell(*group, seed, other_scheme)

    def leakage_schemes(self) -> list[str]:
        """The schemes that the table of leakage compares; `audited`, its reference, among them."""
        return list(dict.fromkeys([*self.settings.leakage.schemes, "audited"]))

    def tables(self) -> list[str]:
        """Every table of the profile."""
        names = [*self.cell_tables(), *(self.settings.alignment.kinds if self.readers() else [])]
        names += ["leakage"] if self.groups("leakage") else []
        names += ["compute"] if any(self.phases(arm) for arm in self.arms()) else []
        methods = self.settings.downstream.methods
        names += ["ranks"] if len(methods) > 1 and self.settings.downstream.pairs else []
        return names + (["comparisons", "claims"] if "cm_cgns" in methods and len(methods) > 1 else [])

    def table_inputs(self, name: str) -> list[str]:
        """The files that a table is made from."""
        if name in self.settings.alignment.kinds:
            return [self.paths.alignment(name, arm) for arm in self.readers()]
        if name == "compute":
            folders = {self.phase(arm, phase) for arm in self.arms() for phase in self.phases(arm)}
            return [f"{folder}/compute.json" for folder in sorted(folders)]
        if name == "leakage":
            wanted = [
                Cell(*group, seed, "" if scheme == self.scheme else scheme)
                for group in self.groups(name)
                for scheme in self.leakage_schemes()
                for seed in self.settings.downstream.seeds
            ]
            return [self.paths.audit] + [f"{self.cell_folder(cell)}/metrics.json" for cell in wanted]
        names = self.cell_tables() if name in ("comparisons", "claims") else [name]
        names = [table for table in self.cell_tables() if table in TABLES] if name == "ranks" else names
        more = [self.paths.gate(self.scheme)] if name in self.cell_tables() else []
        if name == "claims":
            values = self.slice("table", name=name)
            more = [values["comparisons"], *values["grounding"].values()]
        groups = dict.fromkeys(group for table in names for group in self.groups(table))
        return more + [
            f"{self.paths.cell(*group, seed)}/metrics.json"
            for group in groups
            for seed in self.settings.downstream.seeds
        ]

    def cell_tables(self) -> list[str]:
        """The tables whose cells are fine-tuning runs."""
        s = self.settings
        return [
            *(
                name
                for name, task in TABLES.items()
                if any(pair.startswith(task) for pair in s.downstream.pairs)
            ),
            *(["4"] if s.ablation.pairs else []),
            *(["sensitivity"] if s.sensitivity.pairs else []),
        ]

    def groups(self, table: str) -> list[tuple[str, str, int]]:
        """The (arm, pair, fraction) of a table's cells."""
        s, d = self.settings, self.settings.downstream
        if table in TABLES:
            arms, fractions = d.methods, d.fractions
            pairs = [pair for pair in d.pairs if pair.startswith(TABLES[table])]
        elif table == "4":
            arms, fractions = (
                [*(f"{s.ablation.of}-{v}" for v in s.ablation.variants), s.ablation.of],
                d.fractions,
            )
            pairs = s.ablation.pairs
        elif table == "leakage":
            arms = [arm for arm in s.leakage.arms if arm in d.methods]
            pairs, fractions = s.leakage.pairs, s.leakage.fractions
        else:
            arms = [*(arm for arm in self.variants() if "=" in arm), s.sensitivity.of]
            pairs, fractions = s.sensitivity.pairs, s.sensitivity.fractions
        return [(arm, pair, fraction) for arm in arms for pair in pairs for fraction in fractions]

    def cell_folder(self, cell: Cell) -> str:
        """Where a run's files lie."""
        return self.paths.cell(cell.arm, cell.pair, cell.fraction, cell.seed, cell.other_scheme)

    def readers(self) -> list[str]:
        """The arms that read reports."""
        return [arm for arm in self.arms() if METHODS[self.method(arm)].text]

    def sources(self) -> list[str]:
        """The sources that the profile's runs read."""
        used = {cell.source for cell in self.cells()}
        zero_shot = "zero_shot" in self.settings.alignment.kinds and self.readers()
        if zero_shot or "tsne" in self.settings.figures.kinds:
            used.add("chexpert")
        if any(self.phases(arm) for arm in self.arms()):
            used.add("mimic_cxr")
        return sorted(used)

    @staticmethod
    def method(arm: str) -> str:
        """The method an arm is, or is a variant of."""
        return arm.split("-")[0]

    def title(self, arm: str) -> str:
        """What a figure calls an arm."""
        _, _, variant = arm.partition("-")
        return METHODS[self.method(arm)].title + (f" ({variant})" if variant else "")

    def phases(self, arm: str) -> tuple[str, ...]:
        """The pre-training phases of an arm; none for an initialisation."""
        return METHODS[self.method(arm)].phases

    def owner(self, arm: str, phase: str) -> str:
        """The first arm whose run up to `phase` is the same: variants that differ later share their first phases."""
        return self._owners[arm, phase]

    @cached_property
    def _owners(self) -> dict[tuple[str, str], str]:
        first: dict[tuple[str, ...], str] = {}
        owners = {}
        for known in self.arms():
            chain: tuple[str, ...] = (self.method(known),)
            for phase in self.phases(known):
                chain = (*chain, self.params("pretrain", arm=known, phase=phase))
                owners[known, phase] = first.setdefault(chain, known)
        return owners

    def phase(self, arm: str, phase: str) -> str:
        """The folder of a phase's weights."""
        return self.paths.phase(self.owner(arm, phase), phase)

    def start(self, arm: str, phase: str) -> str | None:
        """The weights a phase starts from: those the phase before left, or None."""
        phases = self.phases(arm)
        i = phases.index(phase)
        if i == 0:
            return None
        return f"{self.phase(arm, phases[i - 1])}/{self.settings.pretraining.next_phase_from}.safetensors"

    def image_weights(self, arm: str) -> str:
        """What an arm's image encoder starts from: a name that `build_trunk` knows, or a file."""
        if METHODS[self.method(arm)].family == "initialisation":
            chosen = {"imagenet": self.settings.downstream.imagenet_weights, "shapes": "shapes"}.get(
                arm, "random"
            )
        else:
            chosen = (
                self.settings.preset(self.method(arm)).image_weights or self.settings.encoders.image.weights
            )
        return self.paths.shape_weights if chosen == "shapes" else chosen

    def weight_files(self, arm: str) -> list[str]:
        """The file that an arm's image encoder starts from, if it is one: an input of the job that reads it."""
        name = self.image_weights(arm)
        return [] if name == "random" or name.startswith("imagenet") else [name]

    def final(self, trunk: str) -> str | None:
        """The weights that a trunk is taken from, or None for an initialisation."""
        if not self.phases(trunk.split("-seed")[0]):
            return None
        last = self.phases(trunk)[-1]
        return f"{self.phase(trunk, last)}/{self.settings.pretraining.final_checkpoint}.safetensors"

    @staticmethod
    def table_code(name: str) -> str:
        """The step whose code makes a table."""
        return "alignment" if name in KINDS else name if name in MODULES else "table"

    @staticmethod
    def trunk(arm: str, seed: int | str) -> str:
        """The trunk a run stands on. The seed is the whole of a random start, so each run has its own."""
        return f"random-seed{seed}" if arm == "random" else arm

    def slice(self, step: str, **which: Any) -> dict[str, Any]:
        """The settings that a step may read, as plain JSON values."""
        return getattr(self, f"_{step}")(**which)

    def params(self, step: str, **which: Any) -> str:
        """The canonical text of a step's settings: what Snakemake records and the command receives."""
        return canonical(self.slice(step, **which))

    def code(self, step: str, arm: str | None = None, source: str | None = None) -> str:
        """The fingerprint of the code a step runs."""
        extra = [f"cmcgns.sources.{source}"] if source else []
        if arm and self.phases(arm):
            extra.append(f"cmcgns.objectives.{METHODS[self.method(arm)].objective.split('.')[0]}")
        return _code(step, *extra)

    def _check(self, arm: str, phase: str | None = None) -> None:
        """Raise if the profile has no such arm, or the arm no such phase."""
        trained = [*self.settings.methods, *self.variants()]
        if arm not in trained:
            raise InputError(f"no method {arm!r} is pre-trained", expected=f"one of {', '.join(trained)}")
        if phase is not None and phase not in self.phases(arm):
            raise InputError(
                f"{arm} has no phase {phase!r}", expected=f"one of {', '.join(self.phases(arm))}"
            )

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

    def _pretrain(self, arm: str, phase: str) -> dict[str, Any]:
        self._check(arm, phase)
        s, method = self.settings, METHODS[self.method(arm)]
        preset = s.preset(self.method(arm))
        encoders = {
            key: value for key, value in self._json("encoders")["encoders"].items() if key != "shapes"
        }
        encoders["image"]["weights"] = self.image_weights(arm)
        if not method.text:
            del encoders["text"]
        objective = s.objective(self.method(arm), self.variants().get(arm))
        later = method.last_phase_only if phase != method.phases[-1] else frozenset()
        p = s.pretraining
        return {
            "class": method.objective,
            "encoders": encoders,
            "pretraining": {key: getattr(p, key) for key in ("seed", "pairing", "devices", "threads")},
            "images": {"size": s.images.size, "resize": s.images.resize},
            "augmentation": preset.augmentation or p.augmentation,
            "training": s.training(self.method(arm), phase),
            "objective": {key: value for key, value in objective.items() if key not in later},
        }

    def _audit(self) -> dict[str, Any]:
        return {
            "scheme": self.scheme,
            "sources": self.sources(),
            "seeds": self.settings.downstream.seeds,
            "siim_subset_of": self.settings.splits.siim_subset_of,
            "near_duplicates": self.settings.audit.near_duplicates,
        }

    def _audit_runs(self) -> dict[str, Any]:
        groups = list(dict.fromkeys((c.arm, c.pair, c.fraction) for c in self.cells() if not c.other_scheme))
        heads = {
            f"{pair}-{fraction}": {
                k: self.settings.head(pair, fraction)[k] for k in ("lr", "schedule", "max_epochs")
            }
            for _, pair, fraction in groups
        }
        phases = [
            {"arm": arm, "phase": phase, "folder": self.phase(arm, phase)}
            | {k: self.slice("pretrain", arm=arm, phase=phase)["training"][k] for k in ("lr", "schedule")}
            for arm in self.arms()
            for phase in self.phases(arm)
            if self.owner(arm, phase) == arm
        ]
        seeds = self.settings.downstream.seeds
        return {"groups": [list(group) for group in groups], "seeds": seeds, "heads": heads, "phases": phases}

    def _gate(self, scheme: str) -> dict[str, Any]:
        return {"accept": self._json("audit")["audit"]["accept"], "measured": scheme != self.scheme}

    def _shape_weights(self) -> dict[str, Any]:
        e = self._json("encoders")["encoders"]
        return {"arch": e["image"]["arch"], "size": self.settings.images.size, **e["shapes"]}

    def _export_trunk(self, trunk: str) -> dict[str, Any]:
        arm, _, seed = trunk.partition("-seed")
        initial = "random" if self.phases(arm) else self.image_weights(arm)
        return {"arch": self.settings.encoders.image.arch, "initial": initial, "seed": int(seed or 0)}

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

    def _align(self, kind: str, arm: str) -> dict[str, Any]:
        self._check(arm)
        s, trained = self.settings, self.slice("pretrain", arm=arm, phase=self.phases(arm)[-1])
        own = {"retrieval": {"gallery": s.alignment.gallery}, "zero_shot": {"split_seed": s.splits.seed}}
        return {
            "class": trained["class"],
            "seeds": s.alignment.seeds,
            "settings": {
                "encoders": trained["encoders"],
                "objective": trained["objective"],
                "seed": trained["pretraining"]["seed"],
                **trained["images"],
                "max_tokens": s.reports.max_tokens,
                "batch_size": s.alignment.batch_size,
                "threads": s.downstream.threads,
                **own.get(kind, {}),
            },
        }

    def _table(self, name: str) -> dict[str, Any]:
        seeds = self.settings.downstream.seeds
        if name in KINDS:
            return {"metrics": {arm: self.paths.alignment(name, arm) for arm in self.readers()}}
        if name == "compute":
            return {
                "phases": [
                    [arm, phase, self.phase(arm, phase)] for arm in self.arms() for phase in self.phases(arm)
                ]
            }
        if name == "leakage":
            cells, schemes = self.groups(name), self.leakage_schemes()
            return {"cells": cells, "schemes": schemes, "seeds": seeds, "own": self.scheme}
        if name == "comparisons":
            return {"tables": {table: self.groups(table) for table in self.cell_tables()}, "seeds": seeds}
        if name == "ranks":
            tables = [table for table in self.cell_tables() if table in TABLES]
            return {"cells": [group for table in tables for group in self.groups(table)], "seeds": seeds}
        if name == "claims":
            return {
                "comparisons": self.paths.table("comparisons", "csv"),
                "grounding": {
                    arm: self.paths.alignment("grounding", arm)
                    for arm in self.readers()
                    if "grounding" in self.settings.alignment.kinds
                },
                "cells": [
                    [c.arm, c.pair, c.fraction]
                    for c in self.cells()
                    if c.seed == seeds[0] and not c.other_scheme
                ],
                "seeds": seeds,
            }
        groups = self.groups(name) if name in self.cell_tables() else []
        return {"groups": groups, "seeds": seeds, "gate": self.paths.gate(self.scheme)}

    def _attention(self, arm: str) -> dict[str, Any]:
        values = self._align("grounding", arm)
        more = {"panels": self.settings.figures.films, "split_seed": self.settings.splits.seed}
        return {
            "class": values["class"],
            "title": self.title(arm),
            "settings": values["settings"] | more,
        }

    def _tsne(self, arm: str) -> dict[str, Any]:
        if arm not in METHODS:
            self._check(arm)
        trunk = self.trunk(arm, self.settings.downstream.seeds[0])
        return {"trunk": trunk, "title": self.title(arm), "seed": self.settings.splits.seed}

    def _summary(self) -> dict[str, Any]:
        return {
            "tables": [
                self.paths.table(name, "csv")
                for name in self.tables()
                if name in self.cell_tables() or name in KINDS
            ]
        }

    def _report(self) -> dict[str, Any]:
        own = self._json(*type(self.settings).model_fields)
        paper = self.paper.model_dump(mode="json") if self.paper else own
        return {
            "tables": {name: self.groups(name) for name in self.cell_tables()},
            "others": [name for name in self.tables() if name not in self.cell_tables()],
            "seeds": self.settings.downstream.seeds,
            "arms": {
                arm: {
                    "phases": [[phase, self.phase(arm, phase)] for phase in self.phases(arm)],
                    "weights": self.final(arm) or self.image_weights(arm),
                }
                for arm in self.arms()
            },
            "leakage": {"groups": self.groups("leakage"), "schemes": self.leakage_schemes()},
            "scheme": self.scheme,
            "settings": self._shown(),
            "code": self._codes(),
            "figures": self.shown_figures(),
            "differences": [d for d in _differences(paper, own) if d[0] != "profile"],
        }

    def _shown(self) -> dict[str, Any]:
        """The settings of every kind of run, each once; of a variant what it changes, so that they fit a command line."""
        shown: dict[str, Any] = {}
        for pair, fraction in sorted({(cell.pair, cell.fraction) for cell in self.cells()}):
            shown[f"{pair}-{fraction}"] = self.slice("finetune", pair=pair, fraction=fraction)
        if self.settings.downstream.classification.views:
            shown["features"] = self.slice("features")
        for arm in self.arms():
            for phase in self.phases(arm):
                if self.owner(arm, phase) != arm:
                    continue
                own = self.slice("pretrain", arm=arm, phase=phase)
                method = self.method(arm)
                if arm != method:
                    own = {
                        "as": f"{method}/{phase}",
                        "but": {
                            leaf: now
                            for leaf, _, now in _differences(
                                self.slice("pretrain", arm=method, phase=phase), own
                            )
                        },
                    }
                shown[f"{arm}/{phase}"] = own
        for kind in self.settings.alignment.kinds if self.readers() else []:
            values = self.slice("align", kind=kind, arm=self.readers()[0])
            common = {k: v for k, v in values["settings"].items() if k not in ("encoders", "objective")}
            shown[kind] = common | {"seeds": values["seeds"]}
        return shown

    def _codes(self) -> dict[str, str]:
        """The fingerprints of the code that made the numbers of the report."""
        codes = {task: self.code(task) for task in TABLES.values()}
        for arm in self.arms():
            if self.phases(arm):
                codes[f"pretrain/{self.method(arm)}"] = self.code("pretrain", arm)
                codes[f"align/{self.method(arm)}"] = self.code("align", arm)
        return codes

    def shown_figures(self) -> list[list[str]]:
        """(kind, arm, file without ending) of the report's figures; films of real patients are not among them."""
        kinds = self.settings.figures.kinds
        found = []
        if "attention" in kinds and self.settings.synthetic:
            found = [["attention", arm, self.paths.attention(arm, True)] for arm in self.readers()]
        return found + [["tsne", arm, self.paths.tsne(arm)] for arm in self.arms() if "tsne" in kinds]

    def table_files(self, name: str) -> list[str]:
        """What a table is written as; those of the paper and of alignment go into papers and have details."""
        endings = ["csv", "md"]
        if name in (*self.cell_tables(), *KINDS):
            endings += ["details.csv", "tex"]
        if name == "ranks":
            endings += ["svg"]
        return [self.paths.table(name, ending) for ending in endings]

    def report_inputs(self) -> list[str]:
        """The files that the report is made from, its templates aside."""
        phases = sorted({self.phase(arm, phase) for arm in self.arms() for phase in self.phases(arm)})
        return [
            *(file for name in self.tables() for file in self.table_files(name) if not file.endswith(".tex")),
            *(f"{self.cell_folder(cell)}/metrics.json" for cell in self.cells()),
            *(f"{folder}/{file}" for folder in phases for file in ("history.csv", "compute.json")),
            *(
                self.paths.alignment(kind, arm)
                for kind in self.settings.alignment.kinds
                for arm in self.readers()
            ),
            *(f"{file}.png" for _, _, file in self.shown_figures()),
            *(f"{file}.json" for kind, _, file in self.shown_figures() if kind == "tsne"),
            self.paths.audit,
            self.paths.gate(self.scheme),
        ]

    def report_files(self) -> list[Path]:
        """The reports' zip, if they lie there as downloaded; a folder's many files are taken as never changed."""
        from cmcgns.sources.mimic_cxr import find_reports

        found = find_reports(Path(self.paths.raw))
        return [found] if found and found.is_file() else []

    def phrase_files(self) -> list[Path]:
        """MS-CXR's label file, if it is among the downloads."""
        from cmcgns.sources import ms_cxr

        root = ms_cxr.find(Path(self.paths.raw))
        return ms_cxr.label_files(root) if root else []

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


def _leaves(value: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """A tree of settings as {dotted key: leaf}."""
    if not isinstance(value, dict) or not value:
        return {".".join(path): value}
    return {
        leaf: found
        for key, child in value.items()
        for leaf, found in _leaves(child, (*path, str(key))).items()
    }


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[list[Any]]:
    """(leaf, value before, value after) of the leaves that differ; None where there is no such leaf."""
    a, b = _leaves(before), _leaves(after)
    return [[leaf, a.get(leaf), b.get(leaf)] for leaf in sorted(a | b) if a.get(leaf) != b.get(leaf)]
