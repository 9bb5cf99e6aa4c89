# Splits and pixels -> findings -> the gate that every training waits for, and the page that shows them.
# Lists say themselves that their times of change mean nothing; Snakemake takes that from single files only (pipeline/engine.py).

SPLITS = ancient([P.split(source, PLAN.scheme) for source in PLAN.sources()])
INDEXES = ancient([P.index(source) for source in PLAN.sources()])
RANKS = ancient(
    [
        P.ranks(source, PLAN.scheme, seed)
        for source in PLAN.sources()
        if source != "mimic_cxr"
        for seed in S.downstream.seeds
    ]
)


rule audit:
    input:
        index=INDEXES,
        unmatched=ancient([P.unmatched(source) for source in PLAN.sources()]),
        store=ancient([P.store(source) for source in PLAN.sources()]),
        store_table=ancient([P.store_table(source) for source in PLAN.sources()]),
        split=SPLITS,
        ranks=RANKS,
        key=P.key,
    output:
        out=P.audit,
    log:
        f"{LOGS}/audit.log",
    params:
        job=job("cmcgns.audit.profile.audit_profile", lambda wc: PLAN.slice("audit"), shows={"out": COUNTS}),
    shell:
        STEP


rule gate:
    input:
        audit=P.audit,
    output:
        out=P.gate("{scheme}"),
    log:
        f"{LOGS}/gate-{{scheme}}.log",
    params:
        job=job(
            "cmcgns.audit.gate.pass_gate", lambda wc: PLAN.slice("gate", scheme=wc.scheme), shows={"out": COUNTS}
        ),
    shell:
        STEP


rule audit_runs:
    input:
        metrics=ancient(
            [f"{PLAN.cell_folder(cell)}/metrics.json" for cell in PLAN.cells() if not cell.other_scheme]
        ),
        history=ancient([f"{P.results}/pretrain/{run}/history.csv" for run in PLAN.runs()]),
    output:
        out=P.audit_runs,
    log:
        f"{LOGS}/audit_runs.log",
    params:
        job=job("cmcgns.audit.runs.audit_runs", lambda wc: PLAN.slice("audit_runs"), shows={"out": COUNTS}),
    shell:
        STEP


rule audit_page:
    input:
        audit=P.audit,
        gate=P.gate(PLAN.scheme),
        split=SPLITS,
        index=INDEXES,
        ranks=RANKS,
    output:
        out=P.audit_page,
    log:
        f"{LOGS}/audit-page.log",
    params:
        job=job(
            "cmcgns.reporting.audit_page.write_audit_page",
            lambda wc: PLAN.slice("audit_page"),
            also=lambda wc: ["reporting/templates/audit.html.j2"],
            shows={"out": COUNTS},
        ),
    shell:
        STEP
