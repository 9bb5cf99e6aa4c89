"""The text encoder: a BERT without its pooler."""

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from cmcgns.errors import InputError
from cmcgns.models.seeding import seeded

SIZES = {"hidden": 768, "layers": 12, "heads": 12, "vocab_size": 28_996, "max_positions": 512, "dropout": 0.1}


def build_text_encoder(
    name: str = "emilyalsentzer/Bio_ClinicalBERT",
    *,
    seed: int = 42,
    config: Mapping[str, float] | None = None,
) -> BertModel:
    """A `transformers` BertModel with `add_pooling_layer=False`.

    Args:
        name: a hub name, a local folder, or "random" (weights drawn from `seed`, sizes from `config`).
        config: for "random" only: any of the keys of `SIZES`, which holds the values of BERT base.

    Raises:
        InputError: the weights cannot be had or do not fill the model, or `config` has an unknown key.
    """
    if name == "random":
        return _random_encoder(seed, config or {})
    try:
        with seeded(seed, "text encoder", name):
            model, loading = BertModel.from_pretrained(
                name, add_pooling_layer=False, output_loading_info=True
            )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise InputError(
            f"the text encoder {name!r} cannot be had ({_first_line(error)})",
            remedy="download it once on a machine with a network and set HF_HOME to that cache (with "
            "HF_HUB_OFFLINE=1 where there is no network), or give the path of a local folder that holds "
            "config.json and the weights",
        ) from None
    missing = sorted(loading["missing_keys"])
    if missing:
        raise InputError(
            f"the text encoder {name!r} lacks {len(missing)} weights, the first is {missing[0]}",
            expected="a BERT whose weights fill the whole encoder: none starts at random in silence",
        )
    return model


def lower_layers(encoder: BertModel, layers: int) -> list[nn.Parameter]:
    """The parameters of the embeddings and the first `layers` layers, which some methods freeze; 0 = none."""
    if not layers:
        return []
    parts = [encoder.embeddings, *encoder.encoder.layer[:layers]]
    return [parameter for part in parts for parameter in part.parameters()]


def encode_with_cls_attention(
    encoder: BertModel, token_ids: Tensor, attention_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Hidden states, and how much [CLS] looks at each token in the last layer, averaged over heads.

    The attention is computed from the last layer's own queries and keys: `transformers` returns none unless the
    encoder runs its slow "eager" attention, and then with dropout in it (baselines T24).

    Args:
        token_ids, attention_mask: (B, L)

    Returns:
        (B, L, C) last hidden states, and (B, L) fp32 without gradient: 0 on padding, rows sum to 1.
    """
    out = encoder(input_ids=token_ids, attention_mask=attention_mask, output_hidden_states=True)
    layer, heads = encoder.encoder.layer[-1].attention.self, encoder.config.num_attention_heads
    with torch.no_grad(), torch.autocast(token_ids.device.type, enabled=False):
        before = out.hidden_states[-2].float()
        query = layer.query(before[:, 0]).unflatten(-1, (heads, 1, -1))  # (B, heads, 1, C / heads)
        key = layer.key(before).unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, L, C / heads)
        scores = (query @ key.mT).squeeze(2) * query.shape[-1] ** -0.5
        scores = scores.masked_fill(~attention_mask.bool().unsqueeze(1), -torch.inf)
        return out.last_hidden_state, scores.softmax(-1).mean(1)


def _random_encoder(seed: int, sizes: Mapping[str, float]) -> BertModel:
    unknown = sorted(set(sizes) - set(SIZES))
    if unknown:
        raise InputError(f"unknown sizes {unknown} of the text encoder", expected=f"any of {sorted(SIZES)}")
    size = {**SIZES, **sizes}
    if size["hidden"] % size["heads"]:
        raise InputError(
            f"the text encoder's hidden size {size['hidden']} is not a multiple of {size['heads']} heads"
        )
    config = BertConfig(
        vocab_size=size["vocab_size"],
        hidden_size=size["hidden"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        intermediate_size=4 * size["hidden"],
        max_position_embeddings=size["max_positions"],
        hidden_dropout_prob=size["dropout"],
        attention_probs_dropout_prob=size["dropout"],
    )
    with seeded(seed, "text encoder", "random"):
        return BertModel(config, add_pooling_layer=False)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
