"""The card of an exported model: how to load it, what it was trained on and under which terms, settings, scores."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml

from cmcgns.files import sha256_file, write_text
from cmcgns.pipeline.plan import KINDS, Plan
from cmcgns.reporting.tables import arm_title

HUB_NAMES = {"torchvision": "pytorch", "timm": "timm", "huggingface": "transformers"}
RESIZES = {
    "pad256_crop224": "the longest side scaled to {side} px by area averaging, the rest padded with black, the middle {size} x {size} px cut out",
    "direct224": "squashed to {size} x {size} px",
}
SYNTHETIC = """\
Radiographs and reports that `cmcgns synthesize` drew and wrote: no patient is in them. The weights show that the software
works; they know drawings, not radiographs."""
REAL = """\
Frontal radiographs of MIMIC-CXR-JPG and the reports of MIMIC-CXR, under the PhysioNet Credentialed Health Data License.
PhysioNet has models of its credentialed data handled as the data are: as if they held something of patients, and shared
on PhysioNet only, under the agreement of the source. No image, report, identifier or prediction of a patient lies beside
the weights."""


def write_card(plan: Plan, arm: str, library: str, code: str, folder: Path) -> None:
    """Write `README.md` into the folder of an export.

    Args:
        code: how the model is loaded (`training.take_away`).
    """
    settings, trunk = plan.settings, Path(plan.paths.trunk(arm))
    synthetic = settings.synthetic is not None
    phases = {phase: plan.slice("pretrain", arm=arm, phase=phase) for phase in plan.phases(arm)}
    size = settings.images.size
    resize = RESIZES[settings.images.resize].format(size=size, side=round(size * 256 / 224))
    start = f"Image encoder: `{settings.encoders.image.arch}`, started from `{plan.image_weights(arm)}`."
    if "text" in phases[plan.phases(arm)[0]]["encoders"]:
        start += f" Text encoder: started from `{settings.encoders.text.name}`."
    scores = "\n".join(_scores(plan, arm)) or "No table of this profile is made yet."
    license_ = "apache-2.0" if synthetic else "other"
    terms = (
        "Apache-2.0, like the software."
        if synthetic
        else "The software is Apache-2.0. The weights are bound by the terms of the data above and of the start weights."
    )
    text = f"""---
license: {license_}
library_name: {HUB_NAMES[library]}
tags: [radiography, chest-x-ray, image-feature-extraction]
---
# {plan.title(arm)}, profile `{settings.profile}`

The image encoder after pre-training, exported for {library} by `cmcgns export {arm} --to {library} --profile {settings.profile}`.
For research; not a medical device.

## Use
In this folder, with `images` as below:
```python
{code}```

## Input
(B, 3, {size}, {size}) float. A radiograph in 8-bit grey, air dark: {resize}. The grey value three times, `x / 127.5 - 1`,
which is mean 0.5 and standard deviation 0.5 of [0, 1]. Without augmentation.

## Data and terms
{SYNTHETIC if synthetic else REAL}

{start}

## Scores
Of heads on the frozen encoder, or of none where the task is retrieval, zero_shot or grounding; per cent, split scheme `{plan.scheme}`.

{scores}

## Settings
```yaml
{yaml.safe_dump(phases, sort_keys=False, width=120)}```

## Licence
{terms}

Weights: `{trunk}`, sha256 `{sha256_file(trunk)}`; `cmcgns trace {trunk} --profile {settings.profile}` leads on to raw files.
"""
    write_text(folder / "README.md", text)


def _scores(plan: Plan, arm: str) -> Iterator[str]:
    """Lines of a Markdown table: the arm's rows of all finished tables."""
    heading = ["| table | dataset | metric | labels | mean | std | runs |", "|---|---|---|---|---|---|---|"]
    for name in (name for name in plan.tables() if name in (*plan.cell_tables(), *KINDS)):
        file = Path(plan.paths.table(name, "csv"))
        if not file.exists():
            continue
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        # the paper's tables have rows of runs that the profile does not ask for
        for row in table[(table["method"] == arm_title(arm, name)) & (table["mean"] != "")].itertuples():
            yield from heading
            heading = []
            place = f"| {row.table or name} | {row.dataset} | {row.metric} | {row.fraction} "
            yield f"{place}| {row.mean} | {row.std} | {row.n_runs} |"
