# Splits and pixels -> findings -> the gate that every training waits for.


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
