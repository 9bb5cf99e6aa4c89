# Raw files -> tables, pixels, splits, tokens.


def raw_files(source):
    """What a source's index is made from: the marker of the synthetic world, or the label files that are there."""
    if S.synthetic:
        return [P.truth]
    return [str(path) for path in LABELS.get(source, [])]


if S.synthetic:

    rule synthesize:
        output:
            P.truth,
        log:
            f"{LOGS}/synthesize.log",
        params:
            settings=PLAN.params("synthesize"),
            code=PLAN.code("synthesize"),
        threads: workflow.cores
        shell:
            "cmcgns synthesize --profile {S.profile} --workers {threads} --settings {params.settings:q} > {log} 2>&1"


rule extract_reports:
    input:
        raw_files("mimic_cxr"),
        REPORTS,
    output:
        P.reports,
    log:
        f"{LOGS}/reports.log",
    params:
        settings=PLAN.params("reports"),
        code=PLAN.code("reports"),
    shell:
        "cmcgns reports extract {P.raw} --out {output} --settings {params.settings:q} > {log} 2>&1"


rule index:
    input:
        lambda wc: raw_files(wc.source),
    output:
        table=P.index("{source}"),
        unmatched=P.unmatched("{source}"),
    log:
        f"{LOGS}/index/{{source}}.log",
    params:
        settings=lambda wc: PLAN.params("index", source=wc.source),
        code=lambda wc: PLAN.code("index", source=wc.source),
    shell:
        "cmcgns index {wildcards.source} --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"


rule images:
    input:
        P.index("{source}"),
    output:
        store=P.store("{source}"),
        table=P.store_table("{source}"),
    log:
        f"{LOGS}/images/{{source}}.log",
    params:
        settings=PLAN.params("images"),
        code=PLAN.code("images"),
    threads: max(1, (workflow.cores or 1) // 4)
    shell:
        "cmcgns images {wildcards.source} --profile {S.profile} --workers {threads} --settings {params.settings:q} > {log} 2>&1"


rule split:
    input:
        P.index("{source}"),
        P.store_table("{source}"),
        lambda wc: P.store(wc.source) if wc.source in FILM_GROUPS else [],
        lambda wc: P.reports if wc.source == "mimic_cxr" else [],
    output:
        P.split("{source}", "{scheme}"),
    log:
        f"{LOGS}/split/{{source}}-{{scheme}}.log",
    params:
        settings=lambda wc: PLAN.params("split", source=wc.source),
        code=PLAN.code("split"),
    shell:
        "cmcgns split {wildcards.source} --scheme {wildcards.scheme} --profile {S.profile}"
        " --settings {params.settings:q} > {log} 2>&1"


rule subset:
    input:
        P.index("{source}"),
        P.split("{source}", "{scheme}"),
    output:
        P.ranks("{source}", "{scheme}", "{seed}"),
    log:
        f"{LOGS}/subset/{{source}}-{{scheme}}-seed{{seed}}.log",
    params:
        settings=lambda wc: PLAN.params("subset", source=wc.source),
        code=PLAN.code("split"),
    shell:
        "cmcgns subset {wildcards.source} --scheme {wildcards.scheme} --seed {wildcards.seed} --profile {S.profile}"
        " --settings {params.settings:q} > {log} 2>&1"


rule tokenize:
    input:
        P.reports,
    output:
        P.tokens,
        P.tokenizer,
    log:
        f"{LOGS}/tokenize.log",
    params:
        settings=PLAN.params("tokenize"),
        code=PLAN.code("tokenize"),
    shell:
        "cmcgns tokenize --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"
