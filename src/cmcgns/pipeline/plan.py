"""The list of runs, and for each step exactly the settings it may read and the code it consists of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cmcgns.errors import InputError
from cmcgns.files import canonical
from cmcgns.methods import METHODS
from cmcgns.pipeline.fingerprint import code_of
from cmcgns.pipeline.paths import Paths
from cmcgns.settings import Settings, load_all

TABLES = {"1": "classification", "2": "detection", "3": "segmentation"}

# Sources that tell no patients (RSNA: without the public map) or have films under several names (COVIDx), so that scheme
# audited looks at their pixels.
FILM_GROUPS = ("rsna", "covidx", "siim", "object_cxr")
KINDS = ("retrieval", "zero_shot", "grounding")

# The step that writes a table.
TABLE_STEPS = {
    **dict.fromkeys((*TABLES, "4", "sensitivity"), "cmcgns.reporting.tables.write_table"),
    **dict.fromkeys(KINDS, "cmcgns.reporting.alignment_tables.write_alignment_table"),
    **{
        name: f"cmcgns.reporting.{name}.write_{name}"
        for name in ("compute", "leakage", "comparisons", "ranks", "claims")
    },
}
HEADS = {task: f"cmcgns.evaluation.{task}.finetune" for task in TABLES.values()}
PRETRAIN, ALIGN = "cmcgns.training.run.pretrain", "cmcgns.evaluation.alignment.align"


Group = tuple[str, str, int]  # arm, pair, fraction


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

    def cell_files(self, groups: Iterable[Group], file: str, scheme: str = "") -> list[str]:
        """A file of each run of the groups, each group once, all seeds of one before the next.

        Args:
            scheme: of the split; empty for the profile's own.
        """
        other = "" if scheme == self.scheme else scheme
        return [
            f"{self.paths.cell(*group, seed, other)}/{file}"
            for group in dict.fromkeys(groups)
            for seed in self.settings.downstream.seeds
        ]

    def table_inputs(self, name: str) -> dict[str, Any]:
        """The files that a table is made from, by the names that its step has for them."""
        p, groups = self.paths, self.table_groups(name)
        if name in KINDS:
            return {"metrics": [p.alignment(name, arm) for arm in sorted(self.readers())]}
        if name == "compute":
            return {"compute": [f"{p.results}/pretrain/{run}/compute.json" for run in self.runs()]}
        if name == "leakage":
            schemes = self.leakage_schemes()
            found = [
                file
                for group in groups
                for scheme in schemes
                for file in self.cell_files([group], "predictions.parquet", scheme)
            ]
            return {"audit": p.audit, "predictions": found}
        if name == "comparisons":
            return {"predictions": self.cell_files(groups, "predictions.parquet")}
        runs: dict[str, Any] = {"metrics": self.cell_files(groups, "metrics.json")}
        if name == "claims":
            grounding = [p.alignment("grounding", arm) for arm in self.grounded()]
            return runs | {"comparisons": p.table("comparisons", "csv"), "grounding": grounding}
        return runs if name == "ranks" else runs | {"gate": p.gate(self.scheme)}

    def table_groups(self, name: str) -> list[Group]:
        """The (arm, pair, fraction) that a table is made from, those of all its runs."""
        names = [name] if name in (*self.cell_tables(), "leakage") else []
        if name in ("comparisons", "claims"):
            names = self.cell_tables()
        if name == "ranks":
            names = [table for table in self.cell_tables() if table in TABLES]
        return [group for table in names for group in self.groups(table)]

    def grounded(self) -> list[str]:
        """The arms whose phrase grounding is measured."""
        return self.readers() if "grounding" in self.settings.alignment.kinds else []

    def runs(self) -> list[str]:
        """Every pre-training phase that is trained, once: `<arm that owns it>/<phase>`."""
        every = (self.run(arm, phase) for arm in self.arms() for phase in self.phases(arm))
        return list(dict.fromkeys(every))

    def run(self, arm: str, phase: str) -> str:
        """The name of a phase's training, which is its folder's."""
        return f"{self.owner(arm, phase)}/{phase}"

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

    def groups(self, table: str) -> list[Group]:
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
    def trunk(arm: str, seed: int | str) -> str:
        """The trunk a run stands on. The seed is the whole of a random start, so each run has its own."""
        return f"random-seed{seed}" if arm == "random" else arm

    def slice(self, step: str, **which: Any) -> dict[str, Any]:
        """The settings that a step may read, as plain JSON values."""
        return getattr(self, f"_{step}")(**which)

    def params(self, step: str, **which: Any) -> str:
        """The canonical text of a step's settings: what Snakemake records and the command receives."""
        return canonical(self.slice(step, **which))

    def objective(self, arm: str) -> list[str]:
        """The module of an arm's method: code of the jobs that build its model, which they import by name."""
        module = METHODS[self.method(arm)].objective
        return [f"cmcgns.objectives.{module.split('.')[0]}"] if self.phases(arm) else []

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
        own = {"covidx": {"version": s.covidx_version}, "object_cxr": {"polygon_box": s.polygon_box}}
        return {"name": source, "max_bad_fraction": s.max_bad_fraction, **own.get(source, {})}

    def _images(self, source: str) -> dict[str, Any]:
        s = self.settings
        return {
            "source": source,
            "size": s.images.store_size,
            "max_bad_fraction": s.sources.max_bad_fraction,
        }

    def _split(self, source: str, scheme: str) -> dict[str, Any]:
        s, options = self.settings.splits, {}
        if source == "chexpert":
            options = {"valid_images": s.chexpert_valid_images}
        elif source == "covidx":
            options = {"valid_fraction": s.covidx_valid_fraction}
        elif source == "mimic_cxr":
            options = {"merge_test_into_valid": s.merge_test_into_valid}
        return {"source": source, "scheme": scheme, "seed": s.seed, "options": options}

    def _subset(self, source: str, seed: int) -> dict[str, Any]:
        own = {"siim_subset_of": self.settings.splits.siim_subset_of} if source == "siim" else {}
        return {"source": source, "seed": seed, **own}

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
        encoders["image"]["weights"] = self._start(arm)
        if not method.text:
            del encoders["text"]
        objective = s.objective(self.method(arm), self.variants().get(arm))
        later = method.last_phase_only if phase != method.phases[-1] else frozenset()
        p = s.pretraining
        return {
            "class": method.objective,
            "phase": phase,
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
        phases = []
        for run in self.runs():
            arm, phase = run.split("/")
            trained = self.slice("pretrain", arm=arm, phase=phase)["training"]
            phases.append({"arm": arm, "phase": phase} | {k: trained[k] for k in ("lr", "schedule")})
        seeds = self.settings.downstream.seeds
        return {"groups": [list(group) for group in groups], "seeds": seeds, "heads": heads, "phases": phases}

    def _audit_page(self) -> dict[str, Any]:
        return {k: v for k, v in self._audit().items() if k in ("scheme", "sources", "seeds")}

    def _gate(self, scheme: str) -> dict[str, Any]:
        accept = self._json("audit")["audit"]["accept"]
        return {"scheme": scheme, "accept": accept, "measured": scheme != self.scheme}

    def _shape_weights(self) -> dict[str, Any]:
        e = self._json("encoders")["encoders"]
        return {"arch": e["image"]["arch"], "size": self.settings.images.size, **e["shapes"]}

    def _export_trunk(self, trunk: str) -> dict[str, Any]:
        arm, _, seed = trunk.partition("-seed")
        initial = "random" if self.phases(arm) else self._start(arm)
        return {"arch": self.settings.encoders.image.arch, "initial": initial, "seed": int(seed or 0)}

    def _start(self, arm: str) -> str:
        """What an arm's image encoder starts from, as a setting: a file is an input of its job."""
        return "a file" if self.weight_files(arm) else self.image_weights(arm)

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
            "source": pair.split("-")[1],
            "fraction": fraction,
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
            "kind": kind,
            "arm": arm,
            "objective": trained["class"],
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
        seeds, groups = self.settings.downstream.seeds, self.table_groups(name)
        if name in KINDS:
            return {"name": name, "arms": sorted(self.readers())}
        if name == "compute":
            phases = [[arm, ph, self.run(arm, ph)] for arm in self.arms() for ph in self.phases(arm)]
            return {"runs": self.runs(), "phases": phases}
        if name == "leakage":
            return {"cells": groups, "schemes": self.leakage_schemes(), "seeds": seeds}
        if name == "comparisons":
            return {"tables": {table: self.groups(table) for table in self.cell_tables()}, "seeds": seeds}
        if name == "ranks":
            return {"cells": groups, "seeds": seeds}
        if name == "claims":
            cells = list(dict.fromkeys(groups))
            return {"cells": cells, "seeds": seeds, "grounding_arms": self.grounded()}
        return {"name": name, "groups": groups, "seeds": seeds}

    def _attention(self, arm: str) -> dict[str, Any]:
        values = self._align("grounding", arm)
        more = {"panels": self.settings.figures.films, "split_seed": self.settings.splits.seed}
        return {
            "objective": values["objective"],
            "title": self.title(arm),
            "settings": values["settings"] | more,
        }

    def _tsne(self, arm: str) -> dict[str, Any]:
        if arm not in METHODS:
            self._check(arm)
        return {"title": self.title(arm), "seed": self.settings.splits.seed}

    def _report(self) -> dict[str, Any]:
        own = self._json(*type(self.settings).model_fields)
        paper = self.paper.model_dump(mode="json") if self.paper else own
        return {
            "profile": self.settings.profile,
            "tables": {name: self.groups(name) for name in self.cell_tables()},
            "others": [name for name in self.tables() if name not in self.cell_tables()],
            "seeds": self.settings.downstream.seeds,
            "readers": self.readers(),
            "runs": self.runs(),
            "arms": {
                arm: {
                    "phases": [[phase, self.run(arm, phase)] for phase in self.phases(arm)],
                    "weights": self.final(arm) or self.image_weights(arm),
                    "trunks": {
                        str(seed): self.paths.trunk(self.trunk(arm, seed))
                        for seed in self.settings.downstream.seeds
                    },
                }
                for arm in self.arms()
            },
            "leakage": {"groups": self.groups("leakage"), "schemes": self._other_schemes()},
            "scheme": self.scheme,
            "settings": self._shown(),
            "code": self._codes(),
            "figures": [[kind, arm] for kind, arm, _ in self.shown_figures()],
            "differences": [d for d in differences(paper, own) if d[0] != "profile"],
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
                            for leaf, _, now in differences(
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
        codes = {task: code_of(step) for task, step in HEADS.items()}
        for arm in self.arms():
            if self.phases(arm):
                codes[f"pretrain/{self.method(arm)}"] = code_of(PRETRAIN, self.objective(arm))
                codes[f"align/{self.method(arm)}"] = code_of(ALIGN, self.objective(arm))
        return codes

    def _other_schemes(self) -> list[str]:
        schemes = self.leakage_schemes() if self.groups("leakage") else []
        return [scheme for scheme in schemes if scheme != self.scheme]

    def shown_figures(self) -> list[list[str]]:
        """(kind, arm, file without ending) of the report's figures; films of real patients are not among them."""
        kinds = self.settings.figures.kinds
        found = []
        if "attention" in kinds and self.settings.synthetic:
            found = [["attention", arm, self.paths.attention(arm, True)] for arm in self.readers()]
        return found + [["tsne", arm, self.paths.tsne(arm)] for arm in self.arms() if "tsne" in kinds]

    def table_files(self, name: str) -> dict[str, str]:
        """What a table is written as; those of the paper and of alignment go into papers and have details."""
        endings = {"csv": "csv", "md": "md"}
        if name in (*self.cell_tables(), *KINDS):
            endings |= {"details": "details.csv", "tex": "tex"}
        if name == "ranks":
            endings |= {"svg": "svg"}
        return {kind: self.paths.table(name, ending) for kind, ending in endings.items()}

    def summary_inputs(self) -> list[str]:
        """The tables whose numbers the summary holds."""
        names = [name for name in self.tables() if name in self.cell_tables() or name in KINDS]
        return [self.paths.table(name, "csv") for name in names]

    def report_inputs(self) -> dict[str, Any]:
        """The files that the report is made from, by the names that its step has for them."""
        p = self.paths
        own = self.cell_tables()
        others = [name for name in self.tables() if name not in own]
        written = {name: self.table_files(name) for name in (*own, *others)}
        groups = [group for name in own for group in self.groups(name)]
        metrics = self.cell_files(groups, "metrics.json")
        for scheme in self._other_schemes():
            metrics += self.cell_files(self.groups("leakage"), "metrics.json", scheme)
        return {
            "metrics": metrics,
            "csv": [files["csv"] for files in written.values()],
            "md": [files["md"] for files in written.values()],
            "details": [files["details"] for files in written.values() if "details" in files],
            "ranks": written["ranks"]["svg"] if "ranks" in written else [],
            "history": [f"{p.results}/pretrain/{run}/history.csv" for run in self.runs()],
            "compute": [f"{p.results}/pretrain/{run}/compute.json" for run in self.runs()],
            "alignment": [
                p.alignment(kind, arm) for kind in others if kind in KINDS for arm in self.readers()
            ],
            "pictures": [f"{file}.png" for _, _, file in self.shown_figures()],
            "numbers": [f"{file}.json" for kind, _, file in self.shown_figures() if kind == "tsne"],
            "audit": p.audit,
            "gate": p.gate(self.scheme),
        }


def _leaves(value: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """A tree of settings as {dotted key: leaf}."""
    if not isinstance(value, dict) or not value:
        return {".".join(path): value}
    return {
        leaf: found
        for key, child in value.items()
        for leaf, found in _leaves(child, (*path, str(key))).items()
    }


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[list[Any]]:
    """(leaf, value before, value after) of the leaves that differ; None where there is no such leaf."""
    a, b = _leaves(before), _leaves(after)
    return [[leaf, a.get(leaf), b.get(leaf)] for leaf in sorted(a | b) if a.get(leaf) != b.get(leaf)]
