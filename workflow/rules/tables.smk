# Metrics of all runs -> the paper's tables and the report.


def metrics_of(name):
    return [
        f"{P.cell(arm, pair, fraction, seed)}/metrics.json"
        for arm, pair, fraction in PLAN.groups(name)
        for seed in S.downstream.seeds
    ]


rule table:
    input:
        lambda wc: metrics_of(wc.name.removeprefix("table")),
        "src/cmcgns/reporting/paper_tables.csv",
    output:
        details=f"{P.results}/tables/{{name}}.details.csv",
        csv=f"{P.results}/tables/{{name}}.csv",
        md=f"{P.results}/tables/{{name}}.md",
        tex=f"{P.results}/tables/{{name}}.tex",
    log:
        f"{LOGS}/tables/{{name}}.log",
    params:
        name=lambda wc: wc.name.removeprefix("table"),
        settings=lambda wc: PLAN.params("table", name=wc.name.removeprefix("table")),
        code=PLAN.code("table"),
    wildcard_constraints:
        name="table[1-4]|sensitivity",
    shell:
        "cmcgns table {params.name} --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"


rule report:
    input:
        [P.table(name, e) for name in PLAN.tables() for e in ("csv", "details.csv")],
        "src/cmcgns/reporting/templates/report.html.j2",
        sorted({f"{PLAN.phase(arm, phase)}/history.csv" for arm in PLAN.arms() for phase in PLAN.phases(arm)}),
    output:
        P.report,
    log:
        f"{LOGS}/report.log",
    params:
        settings=PLAN.params("report"),
        code=PLAN.code("report"),
    shell:
        "cmcgns report --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"
