# Beyond the paper: what image-text models know without a head, and the figures.

TRUTH = f"--truth {P.data}/truth" if S.synthetic else ""


# Sentences with boxes, where somebody has them; the synthetic world's truth has its own.
BOXES = [] if S.synthetic else PLAN.phrase_files()


def held_out(source):
    return [P.store(source), P.store_table(source), P.index(source), P.split(source, PLAN.scheme)]


rule align:
    input:
        lambda wc: held_out("chexpert" if wc.kind == "zero_shot" else "mimic_cxr"),
        P.tokens,
        raw_files("mimic_cxr"),
        lambda wc: BOXES if wc.kind == "grounding" else [],
        weights=lambda wc: PLAN.final(wc.arm),
    output:
        P.alignment("{kind}", "{arm}"),
    log:
        f"{LOGS}/align/{{kind}}/{{arm}}.log",
    params:
        settings=lambda wc: PLAN.params("align", kind=wc.kind, arm=wc.arm),
        code=lambda wc: PLAN.code("align", arm=wc.arm),
    wildcard_constraints:
        kind="[a-z_]+",
    threads: S.downstream.threads
    resources:
        gpu=1,
    shell:
        "cmcgns align {wildcards.kind} {wildcards.arm} --weights {input.weights} {TRUTH} --scheme {PLAN.scheme} --profile {S.profile}"
        " --settings {params.settings:q} > {log} 2>&1"


rule attention:
    input:
        held_out("mimic_cxr"),
        P.tokens,
        P.reports,
        raw_files("mimic_cxr"),
        BOXES,
        weights=lambda wc: PLAN.final(wc.arm),
    output:
        multiext(P.attention("{arm}", bool(S.synthetic)), ".png", ".pdf"),
    log:
        f"{LOGS}/figures/attention-{{arm}}.log",
    params:
        settings=lambda wc: PLAN.params("attention", arm=wc.arm),
        code=lambda wc: PLAN.code("figure", arm=wc.arm),
    threads: S.downstream.threads
    resources:
        gpu=1,
    shell:
        "cmcgns figure attention {wildcards.arm} --weights {input.weights} {TRUTH} --scheme {PLAN.scheme} --profile {S.profile}"
        " --settings {params.settings:q} > {log} 2>&1"


rule tsne:
    input:
        lambda wc: P.features(PLAN.slice("tsne", arm=wc.arm)["trunk"], "chexpert"),
        P.store_table("chexpert"),
        P.index("chexpert"),
    output:
        multiext(P.tsne("{arm}"), ".png", ".pdf", ".json"),
    log:
        f"{LOGS}/figures/tsne-{{arm}}.log",
    params:
        settings=lambda wc: PLAN.params("tsne", arm=wc.arm),
        code=PLAN.code("figure"),
    shell:
        "cmcgns figure tsne {wildcards.arm} --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"
