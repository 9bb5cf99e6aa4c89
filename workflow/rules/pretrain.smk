# Image-report pairs -> weights of each phase -> the image encoder that downstream runs read.

# Several devices are several processes, each with its own Python.
LAUNCH = (
    f"env -u CMCGNS_WARM torchrun --standalone --nproc-per-node {S.pretraining.devices} --no-python "
    if S.pretraining.devices > 1
    else ""
)


if any(P.shape_weights in PLAN.weight_files(arm) for arm in PLAN.arms()):

    rule shape_weights:
        output:
            P.shape_weights,
        log:
            f"{LOGS}/shape_weights.log",
        params:
            settings=PLAN.params("shape_weights"),
            code=PLAN.code("shape_weights"),
        threads: S.encoders.shapes.threads
        resources:
            gpu=1,
        shell:
            "cmcgns shape-weights --profile {S.profile} --settings {params.settings:q} > {log} 2>&1"


rule pretrain:
    input:
        P.store("mimic_cxr"),
        P.store_table("mimic_cxr"),
        P.index("mimic_cxr"),
        P.split("mimic_cxr", PLAN.scheme),
        lambda wc: P.tokens if METHODS[PLAN.method(wc.arm)].text else [],
        lambda wc: PLAN.weight_files(wc.arm),
        ancient(P.gate(PLAN.scheme)),  # must be passed; what it says changes no weight
        start=lambda wc: PLAN.start(wc.arm, wc.phase) or [],
    output:
        best=P.phase("{arm}", "{phase}") + "/best.safetensors",
        last=P.phase("{arm}", "{phase}") + "/last.safetensors",
        history=P.phase("{arm}", "{phase}") + "/history.csv",
        compute=P.phase("{arm}", "{phase}") + "/compute.json",
    log:
        f"{LOGS}/pretrain/{{arm}}/{{phase}}.log",
    params:
        settings=lambda wc: PLAN.params("pretrain", arm=wc.arm, phase=wc.phase),
        code=lambda wc: PLAN.code("pretrain", arm=wc.arm),
    threads: S.pretraining.threads
    resources:
        gpu=S.pretraining.devices,
    shell:
        "{LAUNCH}cmcgns pretrain {wildcards.arm} {wildcards.phase} --profile {S.profile} --start '{input.start}'"
        " --tracking {S.tracking.backend} --tracking-folder {S.tracking.folder:q}"
        " --checkpoint-minutes {S.pretraining.checkpoint_minutes} --scheme {PLAN.scheme} --code {params.code} --settings {params.settings:q} > {log} 2>&1"


rule export_trunk:
    input:
        lambda wc: [] if PLAN.final(wc.trunk) else PLAN.weight_files(wc.trunk.split("-seed")[0]),
        weights=lambda wc: PLAN.final(wc.trunk) or [],
    output:
        P.trunk("{trunk}"),
    log:
        f"{LOGS}/export/{{trunk}}.log",
    params:
        settings=lambda wc: PLAN.params("export_trunk", trunk=wc.trunk),
        code=PLAN.code("export_trunk"),
    shell:
        "cmcgns export-trunk --weights '{input.weights}' --out {output} --settings {params.settings:q} > {log} 2>&1"
