# Metrics of all runs -> the paper's tables and the report.

for table_name in PLAN.tables():

    rule:
        name:
            f"table_{table_name}"
        input:
            PLAN.table_inputs(table_name),
            "src/cmcgns/reporting/paper_tables.csv",
        output:
            PLAN.table_files(table_name),
        log:
            f"{LOGS}/tables/{table_name}.log",
        params:
            name=table_name,
            settings=PLAN.params("table", name=table_name),
            code=PLAN.code(PLAN.table_code(table_name)),
        shell:
            "cmcgns table {params.name} --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"


rule summary:
    input:
        P.audit,
        PLAN.slice("summary")["tables"],
    output:
        P.summary,
    log:
        f"{LOGS}/tables/metrics.log",
    params:
        settings=PLAN.params("summary"),
        code=PLAN.code("summary"),
    shell:
        "cmcgns summary --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"


rule report:
    input:
        PLAN.report_inputs(),
        [f"src/cmcgns/reporting/templates/report.{ending}" for ending in ("html.j2", "css", "js")],
    output:
        P.report,
    log:
        f"{LOGS}/report.log",
    params:
        settings=PLAN.params("report"),
        code=PLAN.code("report"),
    shell:
        "cmcgns report --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"
