# Splits and pixels -> findings -> the gate that every training waits for, and the page that shows them.


rule audit:
    input:
        [P.index(source) for source in PLAN.sources()],
        [P.unmatched(source) for source in PLAN.sources()],
        [P.store(source) for source in PLAN.sources()],
        [P.store_table(source) for source in PLAN.sources()],
        [P.split(source, PLAN.scheme) for source in PLAN.sources()],
        [
            P.ranks(source, PLAN.scheme, seed)
            for source in PLAN.sources()
            if source != "mimic_cxr"
            for seed in S.downstream.seeds
        ],
    output:
        P.audit,
    log:
        f"{LOGS}/audit.log",
    params:
        settings=PLAN.params("audit"),
        code=PLAN.code("audit"),
    shell:
        "cmcgns audit profile --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"


rule gate:
    input:
        P.audit,
    output:
        P.gate("{scheme}"),
    log:
        f"{LOGS}/gate-{{scheme}}.log",
    params:
        settings=lambda wc: PLAN.params("gate", scheme=wc.scheme),
        code=PLAN.code("gate"),
    shell:
        "cmcgns audit gate --scheme {wildcards.scheme} --profile {S.profile}"
        " --settings {params.settings:q} > {log} 2>&1"


rule audit_runs:
    input:
        [f"{PLAN.cell_folder(cell)}/metrics.json" for cell in PLAN.cells() if not cell.other_scheme],
        sorted({f"{PLAN.phase(arm, phase)}/history.csv" for arm in PLAN.arms() for phase in PLAN.phases(arm)}),
    output:
        P.audit_runs,
    log:
        f"{LOGS}/audit_runs.log",
    params:
        settings=PLAN.params("audit_runs"),
        code=PLAN.code("audit_runs"),
    shell:
        "cmcgns audit runs --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"


rule audit_page:
    input:
        P.audit,
        P.gate(PLAN.scheme),
        [P.split(source, PLAN.scheme) for source in PLAN.sources()],
        [P.index(source) for source in PLAN.sources()],
        [
            P.ranks(source, PLAN.scheme, seed)
            for source in PLAN.sources()
            if source != "mimic_cxr"
            for seed in S.downstream.seeds
        ],
        "src/cmcgns/reporting/templates/audit.html.j2",
    output:
        P.audit_page,
    log:
        f"{LOGS}/audit-page.log",
    params:
        settings=PLAN.params("audit"),
        code=PLAN.code("audit_page"),
    shell:
        "cmcgns audit page --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"
