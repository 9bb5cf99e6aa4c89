# Raw files -> tables, pixels, splits, tokens.

if S.synthetic:

    rule synthesize:
        output:
            manifest=P.truth("manifest.json"),
            images=P.truth("images.parquet"),
            findings=P.truth("findings.parquet"),
            sentences=P.truth("sentences.parquet"),
        log:
            f"{LOGS}/synthesize.log",
        params:
            job=job(
                "cmcgns.synthetic.synthesize.synthesize_world",
                lambda wc: PLAN.slice("synthesize"),
                fills=RAW,
                sources=lambda wc: SOURCES,
                how=lambda wc, threads: {"workers": threads},
            ),
        threads: workflow.cores
        shell:
            STEP


rule key:
    output:
        out=P.key,
    log:
        f"{LOGS}/key.log",
    params:
        job=job(
            "cmcgns.hidden_ids.write_key",
            lambda wc: {"random": not S.synthetic},
            sources=lambda wc: SOURCES or PLAN.sources(),
        ),
    shell:
        STEP


rule extract_reports:
    input:
        world=WORLD,
    output:
        out=P.reports,
    log:
        f"{LOGS}/reports.log",
    params:
        job=job(
            "cmcgns.reports.extract.extract_reports",
            lambda wc: PLAN.slice("reports"),
            folders=RAW,
            sources=lambda wc: SOURCES or ["mimic_cxr"],
        ),
    shell:
        STEP


rule index:
    input:
        world=WORLD,
        groups=lambda wc: (S.sources.rsna_groups or []) if wc.source in ("rsna", "covidx") else [],
    output:
        out=P.index("{source}"),
        unmatched=P.unmatched("{source}"),
    log:
        f"{LOGS}/index/{{source}}.log",
    params:
        job=job(
            "cmcgns.sources.index.build_index",
            lambda wc: PLAN.slice("index", source=wc.source),
            also=lambda wc: [f"cmcgns.sources.{wc.source}"],
            folders=RAW,
            sources=lambda wc: SOURCES or [wc.source],
        ),
    shell:
        STEP


rule images:
    input:
        world=WORLD,
        index=P.index("{source}"),
    output:
        store=P.store("{source}"),
        table=P.store_table("{source}"),
    log:
        f"{LOGS}/images/{{source}}.log",
    params:
        job=job(
            "cmcgns.images.store.store_source",
            lambda wc: PLAN.slice("images", source=wc.source),
            also=lambda wc: [f"cmcgns.sources.{wc.source}"],
            folders=RAW,
            sources=lambda wc: SOURCES or [wc.source],
            how=lambda wc, threads: {"workers": threads},
        ),
    threads: max(1, (workflow.cores or 1) // 4)
    shell:
        STEP


rule split:
    input:
        index=P.index("{source}"),
        store_table=P.store_table("{source}"),
        store=lambda wc: P.store(wc.source) if wc.source in FILM_GROUPS and wc.scheme == "audited" else [],
        reports=lambda wc: P.reports if wc.source == "mimic_cxr" else [],
    output:
        out=P.split("{source}", "{scheme}"),
    log:
        f"{LOGS}/split/{{source}}-{{scheme}}.log",
    params:
        job=job(
            "cmcgns.splits.write.write_split",
            lambda wc: PLAN.slice("split", source=wc.source, scheme=wc.scheme),
        ),
    shell:
        STEP


rule subset:
    input:
        index=P.index("{source}"),
        split=P.split("{source}", "{scheme}"),
    output:
        out=P.ranks("{source}", "{scheme}", "{seed}"),
    log:
        f"{LOGS}/subset/{{source}}-{{scheme}}-seed{{seed}}.log",
    params:
        job=job(
            "cmcgns.splits.write.write_ranks",
            lambda wc: PLAN.slice("subset", source=wc.source, seed=int(wc.seed)),
        ),
    shell:
        STEP


rule tokenize:
    input:
        reports=P.reports,
    output:
        tokens=P.tokens,
        tokenizer=P.tokenizer,
        tokenizer_config=P.tokenizer_config,
    log:
        f"{LOGS}/tokenize.log",
    params:
        job=job("cmcgns.reports.tokens.tokenize_reports", lambda wc: PLAN.slice("tokenize")),
    shell:
        STEP
