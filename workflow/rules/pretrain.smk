# Image-report pairs -> weights of each phase -> the image encoder that downstream runs read.

if any(P.shape_weights in PLAN.weight_files(arm) for arm in PLAN.arms()):

    rule shape_weights:
        output:
            out=P.shape_weights,
        log:
            f"{LOGS}/shape_weights.log",
        params:
            job=job(
                "cmcgns.synthetic.shape_weights.train_shape_weights",
                lambda wc: PLAN.slice("shape_weights"),
                gpu=1,
            ),
        threads: S.encoders.shapes.threads
        resources:
            gpu=1,
        shell:
            STEP


rule pretrain:
    input:
        store=P.store("mimic_cxr"),
        store_table=P.store_table("mimic_cxr"),
        index=P.index("mimic_cxr"),
        split=P.split("mimic_cxr", PLAN.scheme),
        tokens=lambda wc: P.tokens if METHODS[PLAN.method(wc.arm)].text else [],
        encoder=lambda wc: PLAN.weight_files(wc.arm),
        start=lambda wc: PLAN.start(wc.arm, wc.phase) or [],
        gate=P.gate(PLAN.scheme),  # must be passed; what it says changes no weight
    output:
        best=P.phase("{arm}", "{phase}") + "/best.safetensors",
        last=P.phase("{arm}", "{phase}") + "/last.safetensors",
        history=P.phase("{arm}", "{phase}") + "/history.csv",
        compute=P.phase("{arm}", "{phase}") + "/compute.json",
    log:
        f"{LOGS}/pretrain/{{arm}}/{{phase}}.log",
    params:
        job=job(
            PRETRAIN,
            lambda wc: PLAN.slice("pretrain", arm=wc.arm, phase=wc.phase),
            also=lambda wc: PLAN.objective(wc.arm),
            requires=["gate"],
            how=lambda wc, threads: {
                "arm": wc.arm,
                "checkpoint_minutes": S.pretraining.checkpoint_minutes,
                "tracking": {
                    "backend": S.tracking.backend,
                    "folder": S.tracking.folder,
                    "run": f"{S.profile}/{wc.arm}/{wc.phase}",
                },
            },
            shows={"best": LEARNT, "last": LEARNT, "history": COUNTS, "compute": COUNTS},
            gpu=S.pretraining.devices,
        ),
    threads: S.pretraining.threads
    resources:
        gpu=S.pretraining.devices,
    shell:
        STEP


rule export_trunk:
    input:
        weights=lambda wc: PLAN.final(wc.trunk) or [],
        start=lambda wc: [] if PLAN.final(wc.trunk) else PLAN.weight_files(wc.trunk.split("-seed")[0]),
    output:
        out=P.trunk("{trunk}"),
    log:
        f"{LOGS}/export/{{trunk}}.log",
    params:
        job=job(
            "cmcgns.training.export.export_trunk",
            lambda wc: PLAN.slice("export_trunk", trunk=wc.trunk),
            shows={"out": LEARNT},
        ),
    shell:
        STEP
