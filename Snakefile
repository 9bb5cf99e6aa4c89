# The job graph. Numbers are in params.yaml, paths and the list of runs in src/cmcgns/pipeline; rules in workflow/rules.
# One command a rule; its `params` are all it may read of the settings, plus the fingerprint of the code it runs.
import gc
import os
import subprocess
import sys
import tempfile

from snakemake.utils import min_version

min_version("9.20")

# Until jobs run. The graph is hundreds of thousands of objects that all stay: looking for garbage among them is a tenth of a dry run.
gc.disable()

from cmcgns.errors import InputError
from cmcgns.methods import METHODS
from cmcgns.pipeline.plan import FILM_GROUPS, TABLES, Plan

try:
    PLAN = Plan.load(config.get("profile", "demo"))
    LABELS = {} if PLAN.settings.synthetic else {source: PLAN.label_files(source) for source in PLAN.sources()}
    REPORTS = [] if PLAN.settings.synthetic else PLAN.report_files()
    for weights in {file for arm in PLAN.arms() for file in PLAN.weight_files(arm)} - {PLAN.paths.shape_weights}:
        if not os.path.isfile(weights):
            raise InputError("the weights file does not exist", file=weights, remedy="correct its name in params.yaml")
except InputError as error:
    sys.exit(f"cmcgns: {error}")
P = PLAN.paths
S = PLAN.settings
LOGS = f"logs/{S.profile}"

# Jobs call `cmcgns` of this environment, activated or not, and share one process that has torch imported.
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
os.environ.setdefault("PYTHONHASHSEED", "0")


wildcard_constraints:
    source="|".join(PLAN.sources()),
    scheme="[a-z]+",
    arm=r"[a-z0-9_.=+-]+",
    phase="[a-z0-9]+",
    trunk=r"[a-z0-9_.=+-]+",
    task="[a-z]+",
    pair="[a-z]+-[a-z_]+",
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
        [PLAN.table_files(name) for name in PLAN.tables()],
        [f"{P.attention(arm, bool(S.synthetic))}.png" for arm in PLAN.readers() if "attention" in S.figures.kinds],
        [f"{P.tsne(arm)}.png" for arm in PLAN.arms() if "tsne" in S.figures.kinds],
        [f"{PLAN.cell_folder(cell)}/metrics.json" for cell in PLAN.cells()],


onstart:
    gc.enable()
    # Snakemake's default is at most 100 jobs a second, and each look at the ready jobs asks for another look a second later, which asks
    # for the next: after some hundred jobs the scheduler does nothing but look, and takes a core from the jobs.
    if workflow.local_exec:
        assert hasattr(workflow.scheduler, "job_rate_limiter") and hasattr(workflow.scheduler, "subsample"), (
            "this Snakemake's scheduler has other attributes: see the versions in requirements.lock"
        )
        workflow.scheduler.job_rate_limiter = None
        # Without that timer the next look is at a job's end: one look must fill all cores.
        workflow.scheduler.subsample = max(workflow.scheduler.subsample or 0, 4 * (workflow.cores or 1))
    warm = os.path.join(tempfile.gettempdir(), f"cmcgns-warm-{os.getuid()}-{os.getpid()}.sock")
    os.environ["CMCGNS_WARM"] = warm
    # Out of the terminal's reach: it ends, and its jobs with it, when Snakemake is gone.
    command = [sys.executable, "-m", "cmcgns.pipeline.warm", warm, str(os.getpid())]
    subprocess.Popen(command, start_new_session=True)
