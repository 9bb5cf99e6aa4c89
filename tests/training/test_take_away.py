"""Exported models, loaded by the libraries they are for with the code that the export names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cmcgns.cli import run
from cmcgns.errors import InputError
from cmcgns.models.image import build_trunk, feature_dim
from cmcgns.objectives.build import build_objective, save_weights
from cmcgns.parquet import read_meta, write_parquet
from cmcgns.pipeline import history
from cmcgns.pipeline.audience import LEARNT
from cmcgns.pipeline.plan import Plan
from cmcgns.reports.tokens import load_tokenizer, tokenize_reports
from cmcgns.training.take_away import export_model

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan_of(arch: str, profile: str = "demo") -> Plan:
    settings = Plan.load(profile, ROOT / "params.yaml").settings
    image = settings.encoders.image.model_copy(update={"arch": arch})
    encoders = settings.encoders.model_copy(update={"image": image})
    return Plan(settings.model_copy(update={"encoders": encoders}))


def trained(plan: Plan) -> nn.Module:
    """A trunk in the place of CM-CGNS' own, with statistics and gains that differ from channel to channel.

    In the libraries' memory format: in another one sums are taken in another order, which shows after fifty layers.
    """
    trunk = build_trunk(plan.settings.encoders.image.arch, "random").eval()
    trunk = trunk.to(memory_format=torch.contiguous_format)
    generator = torch.Generator().manual_seed(0)
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                values.copy_(0.5 + torch.rand(values.shape, generator=generator))
    file = Path(plan.paths.trunk("cm_cgns"))
    file.parent.mkdir(parents=True)
    save_file(trunk.state_dict(), file)
    return trunk


def images(size: int = 64) -> torch.Tensor:
    return 2 * torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1)) - 1


def assert_same(features: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-5 of the largest feature, ten times what sums in another order make of it after fifty layers."""
    torch.testing.assert_close(features, expected, atol=1e-5 * expected.abs().max().item(), rtol=0)


def loaded(code: str, folder: Path, monkeypatch) -> dict:
    """The names that the code defines."""
    monkeypatch.chdir(folder)
    names = {"images": images()}
    exec(code, names)
    return names


@torch.no_grad()
@pytest.mark.parametrize(
    ("library", "arch"),
    [
        *(("torchvision", arch) for arch in ("resnet50", "resnet10")),
        *(("timm", arch) for arch in ("resnet50", "resnet10")),
        *(("huggingface", arch) for arch in ("resnet50", "resnet18", "resnet10_half")),
    ],
)
def test_the_library_computes_the_project_s_features(here, monkeypatch, library, arch):
    plan = plan_of(arch)
    trunk = trained(plan)
    monkeypatch.setattr("cmcgns.training.take_away._text_encoder", lambda *_: "")
    code = export_model(plan, "cm_cgns", library, here / "out")
    features = loaded(code, here / "out", monkeypatch)["features"]
    assert_same(features, trunk(images()))
    assert (features.std(0) > 1e-3).float().mean() > 0.5  # they do tell two images apart


def test_torchvision_s_file_fits_a_network_with_a_classifier(here):
    from torchvision.models import resnet18

    plan = plan_of("resnet18")
    trained(plan)
    export_model(plan, "cm_cgns", "torchvision", here / "out")
    missing, unexpected = resnet18().load_state_dict(load_file(here / "out/model.safetensors"), strict=False)
    assert missing == ["fc.weight", "fc.bias"] and not unexpected


@torch.no_grad()
def test_timm_reads_the_folder_with_the_project_s_normalisation(here):
    import timm

    plan = plan_of("resnet10")
    trunk = trained(plan)
    export_model(plan, "cm_cgns", "timm", here / "out")
    model = timm.create_model(f"local-dir:{here}/out", pretrained=True).eval()
    assert_same(model(images()), trunk(images()))
    assert model.num_features == feature_dim(trunk)
    found = timm.data.resolve_model_data_config(model)
    assert [list(found[key]) for key in ("mean", "std", "input_size")] == [[0.5] * 3, [0.5] * 3, [3, 64, 64]]


@torch.no_grad()
def test_the_text_encoder_and_its_tokenizer_go_along(here, monkeypatch):
    plan = plan_of("resnet10")
    trained(plan)
    sentences = ["no acute findings .", "the heart is mildly enlarged ."]
    reports = pd.DataFrame({"study_id": ["1"], "sentences": [sentences], "kept": [True]})
    write_parquet(reports, here / "reports.parquet", {})
    tokens, settings = (
        Path(plan.paths.tokens),
        plan.slice("pretrain", arm="cm_cgns", phase="stage2"),
    )
    encoder = settings["encoders"]["text"]
    written = {"tokens": tokens, "tokenizer": Path(plan.paths.tokenizer)}
    written["tokenizer_config"] = Path(plan.paths.tokenizer_config)
    tokenize_reports(reports=here / "reports.parquet", **written, encoder=encoder, max_tokens=32)
    objective = build_objective(
        settings["class"],
        settings["encoders"],
        settings["objective"],
        seed=1,
        vocab_size=read_meta(tokens)["vocab_size"],
        size=64,
    ).eval()
    final = Path(plan.final("cm_cgns"))
    final.parent.mkdir(parents=True)
    save_weights(objective, final)
    own = load_tokenizer(str(tokens.parent))
    code = export_model(plan, "cm_cgns", "huggingface", here / "out")
    names = loaded(code, here / "out", monkeypatch)
    text = "the heart is Mildly ENLARGED ?"
    assert names["tokenizer"](text)["input_ids"] == own(text)["input_ids"]
    ids = torch.tensor([own(sentences[0])["input_ids"]])
    expected = objective.text_encoder(input_ids=ids).last_hidden_state
    assert_same(names["hidden"], expected)
    written = {path.name for path in (here / "out").rglob("*") if path.is_file()}
    assert written == {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}


def test_a_vocabulary_of_patients_reports_stays(here):
    plan = plan_of("resnet10", "real")
    trained(plan)
    code = export_model(plan, "cm_cgns", "huggingface", here / "out")
    assert "# no text encoder" in code
    assert not (here / "out/text").exists()


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_library_without_such_a_network_says_so(here, library):
    plan = plan_of("resnet10_half")
    trained(plan)
    with pytest.raises(InputError, match=f"{library} cannot build .*resnet10_half.*--to huggingface"):
        export_model(plan, "cm_cgns", library, here / "out")


@pytest.mark.parametrize("library", ["torchvision", "timm", "huggingface"])
def test_a_network_that_only_the_project_has_stays_here(here, library):
    plan = plan_of("bagnet10_half")
    trained(plan)
    with pytest.raises(InputError, match="no other library has .*bagnet10_half.*build_trunk"):
        export_model(plan, "cm_cgns", library, here / "out")


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("random", "pre-trains no 'random'.*expected one of cm_cgns"),
        ("convrt", "pre-trains no 'convrt'"),
        ("cm_cgns", "cm_cgns is not trained yet.*cmcgns reproduce --profile demo"),
    ],
)
def test_nothing_to_export_is_one_message(here, arm, message):
    with pytest.raises(InputError, match=message):
        export_model(plan_of("resnet10"), arm, "timm", here / "out")


def made_of(source: str) -> None:
    """Give CM-CGNS' trunk a history."""
    entry = {
        "step": "cmcgns.x.y", "code": "", "settings": {}, "inputs": {}, "identity": "", "made": {}, "started": 0.0,
        "seconds": 0.0, "sources": [source], "shows": {"out": LEARNT},
        "outputs": {"out": [["results/demo/pretrain/cm_cgns/trunk.safetensors", "0" * 64]]},
    }  # fmt: skip
    history.note(entry)


def test_weights_made_of_downloads_go_to_holders_of_their_agreement(here, capsys):
    (here / "params.yaml").symlink_to(ROOT / "params.yaml")
    trained(plan_of("resnet10"))
    made_of("mimic_cxr")
    assert run(["export", "cm_cgns", "--to", "timm"]) == 1
    assert "holders of the same agreement: it was made of mimic_cxr" in capsys.readouterr().err
    assert not (here / "results/demo/export").exists()
    assert run(["export", "cm_cgns", "--to", "timm", "--for-holders"]) == 0


@torch.no_grad()
def test_the_command_writes_a_card_whose_code_runs(here, monkeypatch):
    (here / "params.yaml").symlink_to(ROOT / "params.yaml")
    trunk = trained(plan_of("resnet10"))
    assert run(["export", "cm_cgns", "--to", "timm"]) == 1  # nobody knows what it was made of
    made_of("synthetic")
    assert run(["export", "cm_cgns", "--to", "timm"]) == 0
    folder = here / "results/demo/export/cm_cgns/timm"
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S).group(1)
    features = loaded(code, folder, monkeypatch)["features"]
    assert_same(features, trunk(images()))
    assert json.loads((folder / "config.json").read_text())["num_features"] == 512
