# Beyond the paper: what image-text models know without a head, and the figures.


def boxes(name, kind):
    """A table of the synthetic world's truth, whose boxes say where a finding is; real data may have MS-CXR among the raw files."""
    return P.truth(f"{name}.parquet") if S.synthetic and kind == "grounding" else []


def words(wc, file):
    """Retrieval reads reports that have been tokenised; the others ask about sentences of their own."""
    return [] if wc.kind == "retrieval" else file


def seen(wc):
    return "chexpert" if wc.kind == "zero_shot" else "mimic_cxr"


rule align:
    input:
        weights=lambda wc: PLAN.final(wc.arm),
        tokens=P.tokens,
        tokenizer=lambda wc: words(wc, P.tokenizer),
        tokenizer_config=lambda wc: words(wc, P.tokenizer_config),
        store=lambda wc: P.store(seen(wc)),
        store_table=lambda wc: P.store_table(seen(wc)),
        index=lambda wc: P.index(seen(wc)),
        split=lambda wc: P.split(seen(wc), PLAN.scheme),
        findings=lambda wc: boxes("findings", wc.kind),
        sentences=lambda wc: boxes("sentences", wc.kind),
        images=lambda wc: boxes("images", wc.kind),
    output:
        metrics=P.alignment("{kind}", "{arm}"),
    log:
        f"{LOGS}/align/{{kind}}/{{arm}}.log",
    params:
        job=job(
            ALIGN,
            lambda wc: PLAN.slice("align", kind=wc.kind, arm=wc.arm),
            also=lambda wc: PLAN.objective(wc.arm),
            folders={} if S.synthetic else RAW,
            sources=lambda wc: SOURCES or ["ms_cxr"],
            shows={"metrics": COUNTS},
            gpu=1,
        ),
    wildcard_constraints:
        kind="[a-z_]+",
    threads: S.downstream.threads
    resources:
        gpu=1,
    shell:
        STEP


rule attention:
    input:
        weights=lambda wc: PLAN.final(wc.arm),
        tokens=P.tokens,
        tokenizer=P.tokenizer,
        tokenizer_config=P.tokenizer_config,
        store=P.store("mimic_cxr"),
        store_table=P.store_table("mimic_cxr"),
        index=P.index("mimic_cxr"),
        split=P.split("mimic_cxr", PLAN.scheme),
        reports=[] if S.synthetic else P.reports,  # for sentences without boxes
        findings=boxes("findings", "grounding"),
        sentences=boxes("sentences", "grounding"),
        images=boxes("images", "grounding"),
    output:
        png=f"{P.attention('{arm}', bool(S.synthetic))}.png",
        pdf=f"{P.attention('{arm}', bool(S.synthetic))}.pdf",
    log:
        f"{LOGS}/figures/attention-{{arm}}.log",
    params:
        job=job(
            "cmcgns.reporting.figures.attention_figure",
            lambda wc: PLAN.slice("attention", arm=wc.arm),
            also=lambda wc: PLAN.objective(wc.arm),
            folders={} if S.synthetic else RAW,
            sources=lambda wc: SOURCES or ["ms_cxr"],
            gpu=1,
        ),
    threads: S.downstream.threads
    resources:
        gpu=1,
    shell:
        STEP


rule tsne:
    input:
        features=lambda wc: P.features(PLAN.trunk(wc.arm, S.downstream.seeds[0]), "chexpert"),
        store_table=P.store_table("chexpert"),
        index=P.index("chexpert"),
    output:
        png=f"{P.tsne('{arm}')}.png",
        pdf=f"{P.tsne('{arm}')}.pdf",
        json=f"{P.tsne('{arm}')}.json",
    log:
        f"{LOGS}/figures/tsne-{{arm}}.log",
    params:
        job=job(
            "cmcgns.reporting.figures.tsne_figure",
            lambda wc: PLAN.slice("tsne", arm=wc.arm),
            shows={"png": COUNTS, "pdf": COUNTS, "json": COUNTS},  # points without names
        ),
    shell:
        STEP
