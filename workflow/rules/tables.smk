# Metrics of all runs -> the paper's tables and the report.

for table in PLAN.tables():

    rule:
        name:
            f"table_{table}"
        input:
            **{name: ancient(files) for name, files in PLAN.table_inputs(table).items()},
        output:
            **PLAN.table_files(table),
        log:
            f"{LOGS}/tables/{table}.log",
        params:
            job=job(
                TABLE_STEPS[table],
                lambda wc, table=table: PLAN.slice("table", name=table),
                also=lambda wc: ["reporting/paper_tables.csv"],
                shows=dict.fromkeys(PLAN.table_files(table), COUNTS),
            ),
        shell:
            STEP


rule summary:
    input:
        tables=ancient(PLAN.summary_inputs()),
        audit=P.audit,
    output:
        out=P.summary,
    log:
        f"{LOGS}/tables/metrics.log",
    params:
        job=job("cmcgns.reporting.summary.write_summary", lambda wc: {}, shows={"out": COUNTS}),
    shell:
        STEP


rule report:
    input:
        **{name: ancient(files) for name, files in PLAN.report_inputs().items()},
    output:
        out=P.report,
    log:
        f"{LOGS}/report.log",
    params:
        job=job(
            "cmcgns.reporting.page.write_page",
            lambda wc: PLAN.slice("report"),
            also=lambda wc: [
                "reporting/paper_tables.csv",
                *(f"reporting/templates/report.{ending}" for ending in ("html.j2", "css", "js")),
            ],
            shows={"out": COUNTS},
        ),
    shell:
        STEP
