import pytest
import torch
from safetensors.torch import load_file, save_file

from cmcgns.errors import InputError
from cmcgns.models.text import build_text_encoder, encode_with_cls_attention

TINY = {"hidden": 16, "layers": 1, "heads": 2, "vocab_size": 30, "max_positions": 12}


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def test_random_encoder_has_the_sizes_and_no_pooler():
    model = build_text_encoder("random", config=TINY)
    config = model.config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (16, 1, 2)
    assert (config.vocab_size, config.max_position_embeddings, config.intermediate_size) == (30, 12, 64)
    assert model.pooler is None
    out = model(input_ids=torch.ones(2, 5, dtype=torch.int64), attention_mask=torch.ones(2, 5).bool())
    assert out.last_hidden_state.shape == (2, 5, 16)


def test_random_start_depends_on_the_seed_alone():
    state = torch.get_rng_state()
    first = weights(build_text_encoder("random", seed=1, config=TINY))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, weights(build_text_encoder("random", seed=1, config=TINY)))
    assert not torch.equal(first, weights(build_text_encoder("random", seed=2, config=TINY)))


@pytest.mark.usefixtures("float64")
def test_padding_changes_nothing():
    model = build_text_encoder("random", config=TINY).eval()
    ids = torch.tensor([[1, 7, 8, 2]])
    padded, mask = torch.tensor([[1, 7, 8, 2, 0, 0]]), torch.tensor([[True] * 4 + [False] * 2])
    short = model(input_ids=ids, attention_mask=torch.ones_like(ids).bool()).last_hidden_state
    long = model(input_ids=padded, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(long[:, :4], short)


def test_local_folder_round_trip(tmp_path):
    model = build_text_encoder("random", seed=7, config=TINY)
    model.save_pretrained(tmp_path)
    assert torch.equal(weights(build_text_encoder(str(tmp_path))), weights(model))


def test_missing_weights_never_start_at_random_in_silence(tmp_path):
    build_text_encoder("random", config=TINY).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    kept = {name: value for name, value in load_file(path).items() if "query" not in name}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match="lacks 2 weights, the first is .*query.bias"):
        build_text_encoder(str(tmp_path))


@pytest.mark.parametrize("broken", [False, True])
def test_what_cannot_be_had_says_why_and_what_to_do(tmp_path, broken):
    if broken:
        build_text_encoder("random", config=TINY).save_pretrained(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be had.*HF_HOME.*local folder"):
        build_text_encoder(str(tmp_path))


def test_bad_sizes_are_refused():
    with pytest.raises(InputError, match="unknown sizes .*depth"):
        build_text_encoder("random", config={"depth": 3})
    with pytest.raises(InputError, match="not a multiple"):
        build_text_encoder("random", config={**TINY, "heads": 3})


@pytest.mark.usefixtures("float64")
def test_attention_of_cls_is_there_whatever_the_attention_kernel():
    """`transformers` hands out none with its default kernel (baselines T24): compare with its eager one."""
    encoder = build_text_encoder("random", config={**TINY, "layers": 3}).eval()
    ids = torch.tensor([[1, 7, 8, 2, 0, 0], [1, 9, 10, 11, 12, 2]])
    mask = ids > 0
    hidden, weights = encode_with_cls_attention(encoder, ids, mask)
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    assert (weights[~mask] == 0).all() and not weights.requires_grad
    torch.testing.assert_close(hidden, encoder(input_ids=ids, attention_mask=mask).last_hidden_state)
    encoder.set_attn_implementation("eager")
    eager = encoder(input_ids=ids, attention_mask=mask, output_attentions=True).attentions[-1]
    torch.testing.assert_close(weights, eager[:, :, 0].mean(1))
    encoder.train()  # the eager kernel's are with dropout then, and sum to anything
    torch.testing.assert_close(encode_with_cls_attention(encoder, ids, mask)[1].sum(1), torch.ones(2))
