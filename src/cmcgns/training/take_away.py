"""`cmcgns export`: a pre-trained model under the names of another library, in files that load there with one line."""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from cmcgns.errors import InputError
from cmcgns.files import atomic, write_json
from cmcgns.methods import METHODS
from cmcgns.models.image import ARCHITECTURES, LocalBlock, build_trunk, feature_dim
from cmcgns.objectives.build import build_objective, load_weights
from cmcgns.parquet import read_meta
from cmcgns.pipeline.plan import Plan
from cmcgns.reports.tokens import load_tokenizer

WEIGHTS = "model.safetensors"
# What builds an architecture. Neither library can be asked for a stem of another width than 64.
TORCHVISION = {
    "resnet50": "models.resnet50()",
    "resnet18": "models.resnet18()",
    "resnet10": "models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1])",
}
TIMM: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet50": ("resnet50", {}),
    "resnet18": ("resnet18", {}),
    "resnet10": ("resnet18", {"layers": [1, 1, 1, 1]}),  # its own resnet10t has another stem
}
HUGGINGFACE = {  # torchvision's part of a block -> transformers'
    **{f"conv{i + 1}": f"layer.{i}.convolution" for i in range(3)},
    **{f"bn{i + 1}": f"layer.{i}.normalization" for i in range(3)},
    "downsample.0": "shortcut.convolution",
    "downsample.1": "shortcut.normalization",
}


def export_model(plan: Plan, arm: str, library: str, out: Path) -> str:
    """Write an arm's image encoder, for `huggingface` its text encoder and tokenizer too, into the folder `out`.

    Args:
        arm: a method or variant that the profile pre-trains.
        library: a key of `WRITERS`.

    Returns:
        Python code that, run in `out`, loads what was written and computes features from `images`, (B, 3, H, W).

    Raises:
        InputError: nothing is pre-trained under this name, its training is not done, or the library has no such
            network.
    """
    trained = [name for name in plan.arms() if plan.phases(name)]
    if arm not in trained:
        raise InputError(
            f"profile {plan.settings.profile!r} pre-trains no {arm!r}",
            expected=f"one of {', '.join(trained)}",
        )
    weights = Path(plan.paths.trunk(arm))
    if not weights.exists():
        remedy = f"cmcgns reproduce --profile {plan.settings.profile}"
        raise InputError(f"{arm} is not trained yet", file=weights, remedy=remedy)
    arch = plan.settings.encoders.image.arch
    if ARCHITECTURES[arch][0] is LocalBlock:
        raise InputError(
            f"no other library has the image encoder {arch}",
            expected="a ResNet",
            remedy=f"cmcgns.models.image.build_trunk({arch!r}, {str(weights)!r}) loads it",
        )
    out.mkdir(parents=True, exist_ok=True)
    code = WRITERS[library](build_trunk(arch, str(weights)), arch, out, plan.settings.images.size)
    if library == "huggingface" and METHODS[plan.method(arm)].text:
        code += _text_encoder(plan, arm, out / "text")
    return code


def _torchvision(trunk: ResNet, arch: str, out: Path, size: int) -> str:
    build = _expressible(TORCHVISION, arch, "torchvision")
    _save(trunk.state_dict(), out)
    return (
        "from safetensors.torch import load_file\nfrom torch import nn\nfrom torchvision import models\n\n"
        f"model = {build}.eval()\n"
        "model.fc = nn.Identity()  # or strict=False below, to keep a new classifier\n"
        f'model.load_state_dict(load_file("{WEIGHTS}"))\n'
        "features = model(images)\n"
    )


def _timm(trunk: ResNet, arch: str, out: Path, size: int) -> str:
    name, changes = _expressible(TIMM, arch, "timm")
    _save(trunk.state_dict(), out)
    cut = {"input_size": [3, size, size], "mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 0}
    card = {"architecture": name, "num_classes": 0, "num_features": feature_dim(trunk)}
    write_json(out / "config.json", {**card, "model_args": changes, "pretrained_cfg": cut})
    more = "".join(f", {key}={value}" for key, value in changes.items())
    return (
        "import timm\n\n"
        f'model = timm.create_model("{name}", pretrained=False, num_classes=0, checkpoint_path="{WEIGHTS}"{more}).eval()\n'
        "features = model(images)\n"
    )


def _huggingface(trunk: ResNet, arch: str, out: Path, size: int) -> str:
    from transformers import ResNetConfig, ResNetModel

    block, depths, width = ARCHITECTURES[arch]
    config = ResNetConfig(
        embedding_size=width,
        hidden_sizes=[width * block.expansion * 2**i for i in range(len(depths))],
        depths=depths,
        layer_type="bottleneck" if block is Bottleneck else "basic",
    )
    model = ResNetModel(config)
    model.load_state_dict({_huggingface_name(name): value for name, value in trunk.state_dict().items()})
    model.save_pretrained(out)
    return (
        "from transformers import ResNetModel\n\n"
        'model = ResNetModel.from_pretrained(".")\n'
        "features = model(images).pooler_output.flatten(1)\n"
    )


WRITERS = {"torchvision": _torchvision, "timm": _timm, "huggingface": _huggingface}


def _huggingface_name(name: str) -> str:
    """layer2.0.downsample.1.bias -> encoder.stages.1.layers.0.shortcut.normalization.bias"""
    module, _, kind = name.rpartition(".")
    if "." not in module:
        return f"embedder.embedder.{'convolution' if module == 'conv1' else 'normalization'}.{kind}"
    layer, block, part = module.split(".", 2)
    return f"encoder.stages.{int(layer.removeprefix('layer')) - 1}.layers.{block}.{HUGGINGFACE[part]}.{kind}"


def _text_encoder(plan: Plan, arm: str, out: Path) -> str:
    settings = plan.slice("pretrain", arm=arm, phase=plan.phases(arm)[-1])
    encoders, tokens = settings["encoders"], Path(plan.paths.tokens)
    if encoders["text"]["name"] == "random" and plan.settings.synthetic is None:
        return "# no text encoder: its vocabulary is the words of reports of patients\n"
    objective = build_objective(
        settings["class"],
        encoders | {"image": encoders["image"] | {"weights": "random"}},  # the next line fills it
        settings["objective"],
        seed=settings["pretraining"]["seed"],
        vocab_size=read_meta(tokens)["vocab_size"],
        size=settings["images"]["size"],
    )
    load_weights(objective, Path(plan.final(arm)))
    objective.text_encoder.save_pretrained(out)
    load_tokenizer(str(tokens.parent)).save_pretrained(out)
    return (
        "\nfrom transformers import AutoTokenizer, BertModel\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("text")\n'
        'text_model = BertModel.from_pretrained("text", add_pooling_layer=False)\n'
        'hidden = text_model(**tokenizer(["no acute findings ."], return_tensors="pt")).last_hidden_state\n'
    )


def _expressible(known: dict[str, Any], arch: str, library: str) -> Any:
    if arch not in known:
        raise InputError(
            f"{library} cannot build the image encoder {arch}",
            expected=f"one of {', '.join(known)}",
            remedy="--to huggingface can",
        )
    return known[arch]


def _save(state: dict[str, Tensor], out: Path) -> None:
    with atomic(out / WEIGHTS) as temporary:
        save_file({name: value.contiguous() for name, value in state.items()}, temporary, {"format": "pt"})
