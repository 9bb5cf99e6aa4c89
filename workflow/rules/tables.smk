# Metrics of all runs -> the paper's tables and the report.


def metrics_of(number):
    return [
        f"{P.cell(c.method, c.pair, c.fraction, c.seed)}/metrics.json" for c in PLAN.cells() if c.task == TABLES[number]
    ]


rule table:
    input:
        lambda wc: metrics_of(int(wc.number)),
        "src/cmcgns/reporting/paper_tables.csv",
    output:
        details=P.table("{number}", "details.csv"),
        csv=P.table("{number}", "csv"),
        md=P.table("{number}", "md"),
        tex=P.table("{number}", "tex"),
    log:
        f"{LOGS}/table{{number}}.log",
    params:
        settings=lambda wc: PLAN.params("table", number=int(wc.number)),
        code=PLAN.code("table"),
    wildcard_constraints:
        number="[1-3]",
    shell:
        "cmcgns table {wildcards.number} --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"


rule report:
    input:
        [P.table(n, e) for n in TABLES for e in ("csv", "details.csv")],
        "src/cmcgns/reporting/templates/report.html.j2",
        [f"{P.phase(m, p)}/history.csv" for m in S.downstream.methods for p in PLAN.phases(m)],
    output:
        P.report,
    log:
        f"{LOGS}/report.log",
    params:
        settings=PLAN.params("report"),
        code=PLAN.code("report"),
    shell:
        "cmcgns report --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"
