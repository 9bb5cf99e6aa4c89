# A trunk, a pair, a fraction, a seed -> predictions and metrics. One rule a task, so that each carries its own code.


rule features:
    input:
        trunk=P.trunk("{trunk}"),
        store=P.store("{source}"),
        store_table=P.store_table("{source}"),
    output:
        out=P.features("{trunk}", "{source}"),
    log:
        f"{LOGS}/features/{{trunk}}-{{source}}.log",
    params:
        job=job(
            "cmcgns.evaluation.encode.write_features",
            lambda wc: PLAN.slice("features"),
            shows={"out": LEARNT},
            gpu=1,
        ),
    threads: S.downstream.threads
    resources:
        gpu=1,
    shell:
        STEP


# The table of leakage has runs of its own under the schemes that are not the profile's.
SCHEMES = [""] + sorted({cell.other_scheme for cell in PLAN.cells()} - {""})

for task, other in ((task, other) for task in HEADS for other in SCHEMES):
    # a probe on stored features reads no trunk; without stored views it encodes fresh crops itself
    stored = task == "classification" and S.downstream.classification.views > 0

    rule:
        name:
            f"finetune_{task}_{other}" if other else f"finetune_{task}"
        input:
            trunk=lambda wc, stored=stored: [] if stored else P.trunk(PLAN.trunk(wc.arm, wc.seed)),
            features=lambda wc, stored=stored: (
                P.features(PLAN.trunk(wc.arm, wc.seed), wc.source) if stored else []
            ),
            store=P.store("{source}"),
            store_table=P.store_table("{source}"),
            index=P.index("{source}"),
            split=P.split("{source}", other or PLAN.scheme),
            ranks=P.ranks("{source}", other or PLAN.scheme, "{seed}"),
            key=P.key,
            gate=P.gate(other or PLAN.scheme),
        output:
            predictions=P.cell("{arm}", f"{task}-{{source}}", "{fraction}", "{seed}", other) + "/predictions.parquet",
            metrics=P.cell("{arm}", f"{task}-{{source}}", "{fraction}", "{seed}", other) + "/metrics.json",
        log:
            f"{LOGS}/{'leakage/' + other if other else 'finetune'}/{{arm}}/{task}-{{source}}/{{fraction}}/seed-{{seed}}.log",
        params:
            job=job(
                HEADS[task],
                lambda wc, task=task: {
                    **PLAN.slice("finetune", pair=f"{task}-{wc.source}", fraction=int(wc.fraction)),
                    "seed": int(wc.seed),
                },
                requires=["gate"],
                shows={"predictions": LEARNT, "metrics": COUNTS},
                gpu=1,
            ),
        threads: S.downstream.threads
        resources:
            gpu=1,
        shell:
            STEP
