# A trunk, a pair, a fraction, a seed -> predictions and metrics. One rule a task, so that each carries its own code.


rule features:
    input:
        P.trunk("{trunk}"),
        P.store("{source}"),
        P.store_table("{source}"),
    output:
        P.features("{trunk}", "{source}"),
    log:
        f"{LOGS}/features/{{trunk}}-{{source}}.log",
    params:
        settings=PLAN.params("features"),
        code=PLAN.code("features"),
    threads: S.downstream.threads
    resources:
        gpu=1,
    shell:
        "cmcgns features {wildcards.trunk} {wildcards.source} --profile {S.profile}"
        " --settings {params.settings:q} > {log} 2>&1"


# Without stored views a probe encodes fresh crops itself.
CACHED = S.downstream.classification.views > 0


def trunk(wc):
    return PLAN.trunk(wc.arm, wc.seed)


# The table of leakage has runs of its own under the schemes that are not the profile's.
SCHEMES = [""] + sorted({cell.other_scheme for cell in PLAN.cells()} - {""})

for task, other in ((task, other) for task in TABLES.values() for other in SCHEMES):

    rule:
        name:
            f"finetune_{task}_{other}" if other else f"finetune_{task}"
        input:
            # a probe on stored features reads no trunk
            lambda wc, task=task: (
                P.features(trunk(wc), wc.source) if task == "classification" and CACHED else P.trunk(trunk(wc))
            ),
            P.store("{source}"),
            P.store_table("{source}"),
            P.index("{source}"),
            P.split("{source}", other or PLAN.scheme),
            P.ranks("{source}", other or PLAN.scheme, "{seed}"),
            ancient(P.gate(other or PLAN.scheme)),
        output:
            P.cell("{arm}", f"{task}-{{source}}", "{fraction}", "{seed}", other) + "/predictions.parquet",
            P.cell("{arm}", f"{task}-{{source}}", "{fraction}", "{seed}", other) + "/metrics.json",
        log:
            f"{LOGS}/{'leakage/' + other if other else 'finetune'}/{{arm}}/{task}-{{source}}/{{fraction}}/seed-{{seed}}.log",
        params:
            settings=lambda wc, task=task: PLAN.params(
                "finetune", pair=f"{task}-{wc.source}", fraction=int(wc.fraction)
            ),
            code=PLAN.code(task),
            pair=f"{task}-{{source}}",
            scheme=f"{other} --for-leakage" if other else PLAN.scheme,
        threads: S.downstream.threads
        resources:
            gpu=1,
        shell:
            "cmcgns finetune {params.pair} --arm {wildcards.arm} --fraction {wildcards.fraction}"
            " --seed {wildcards.seed} --scheme {params.scheme} --profile {S.profile}"
            " --settings {params.settings:q} > {log} 2>&1"
