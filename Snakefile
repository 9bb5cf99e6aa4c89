# The job graph. Each rule names its files once; `job` hands exactly these, the settings and the code to the function of its step
# (src/cmcgns/pipeline/document.py). Numbers are in params.yaml, the list of runs in src/cmcgns/pipeline/plan.py.
import os
import sys
from functools import partial

from snakemake.utils import min_version

min_version("9.20")

from cmcgns.errors import InputError
from cmcgns.methods import METHODS
from cmcgns.pipeline import engine
from cmcgns.pipeline.audience import COUNTS, LEARNT, SYNTHETIC
from cmcgns.pipeline import document
from cmcgns.pipeline.plan import ALIGN, FILM_GROUPS, HEADS, PRETRAIN, TABLE_STEPS, Plan

# Whoever calls Snakemake, and with whatever switches: the lock first, then what is stale, then the graph.
engine.enter(workflow)

try:
    PLAN = Plan.load(config.get("profile", "demo"))
    for weights in {file for arm in PLAN.arms() for file in PLAN.weight_files(arm)} - {PLAN.paths.shape_weights}:
        if not os.path.isfile(weights):
            raise InputError("the weights file does not exist", file=weights, remedy="correct its name in params.yaml")
except InputError as error:
    sys.exit(f"cmcgns: {error}")
P = PLAN.paths
S = PLAN.settings
LOGS = f"logs/{S.profile}"
RAW = {"raw": P.raw}
job = partial(document.job, downloads=not S.synthetic)
SOURCES = [SYNTHETIC] if S.synthetic else []  # whose data raw files are, where it is not the download of their name
WORLD = P.truth("manifest.json") if S.synthetic else []  # a synthetic world's manifest stands for its raw files

# One line for all rules. Jobs call `cmcgns` of this environment, activated or not.
STEP = "cmcgns step {params.job:q} > {log} 2>&1"
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
os.environ.setdefault("PYTHONHASHSEED", "0")


wildcard_constraints:
    source="|".join(PLAN.sources()),
    scheme="[a-z]+",
    arm=r"[a-z0-9_.=+-]+",
    phase="[a-z0-9]+",
    trunk=r"[a-z0-9_.=+-]+",
    task="[a-z]+",
    fraction="[0-9]+",
    seed="[0-9]+",


include: "workflow/rules/data.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/downstream.smk"
include: "workflow/rules/beyond.smk"
include: "workflow/rules/tables.smk"


# Every run is named here: Snakemake does not miss an intermediate file of a table that is newer.
rule all:
    default_target: True
    input:
        P.report,
        P.summary,
        P.audit_page,
        P.audit_runs,
        [list(PLAN.table_files(name).values()) for name in PLAN.tables()],
        [f"{P.attention(arm, bool(S.synthetic))}.png" for arm in PLAN.readers() if "attention" in S.figures.kinds],
        [f"{P.tsne(arm)}.png" for arm in PLAN.arms() if "tsne" in S.figures.kinds],
        [f"{PLAN.cell_folder(cell)}/metrics.json" for cell in PLAN.cells()],


onstart:
    engine.start_server(workflow)
