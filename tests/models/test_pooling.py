import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cmcgns.errors import InputError
from cmcgns.models.pooling import (
    AttentionPool,
    ImageAttentionPool,
    MeanQueryPool,
    masked_mean,
    sentence_mean,
    words_of_sentences,
)


def slow_pool(pool, tokens):
    """Row 0 of torch's own multi-head attention over all tokens (T, C) of one sample."""
    dim = tokens.shape[1]
    projections = (pool.q_proj, pool.k_proj, pool.v_proj)
    out, _ = F.multi_head_attention_forward(
        *[tokens[:, None]] * 3,
        embed_dim_to_check=dim,
        num_heads=pool.heads,
        in_proj_weight=None,
        in_proj_bias=torch.cat([p.bias for p in projections]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )
    return out[0, 0]


@pytest.fixture
def sentences():
    x = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([4, 1, 2])
    mask = torch.arange(4) < lengths[:, None]
    return x, mask, lengths  # the padding is not zero: it must not be looked at


def test_masked_mean_by_hand():
    x = torch.tensor([[[1.0], [3.0], [50.0]], [[7.0], [50.0], [50.0]], [[50.0]] * 3])
    mask = torch.tensor([[True, True, False], [True, False, False], [False] * 3])
    assert masked_mean(x, mask).flatten().tolist() == [2, 7, 0]
    assert masked_mean(x)[0].item() == 18


@pytest.mark.usefixtures("float64")
def test_batched_sentence_pool_equals_the_loop(sentences):
    x, mask, lengths = sentences
    pool = AttentionPool(8, heads=2)
    slow = []
    for row, length in zip(x, lengths.tolist(), strict=True):
        valid = row[:length]
        slow.append(slow_pool(pool, torch.cat([valid.mean(0, keepdim=True), valid])))
    torch.testing.assert_close(pool(x, mask), torch.stack(slow))


@pytest.mark.usefixtures("float64")
def test_sentence_pool_is_permutation_invariant_and_simple_for_one_sentence(sentences):
    x, _, _ = sentences
    pool = AttentionPool(8, heads=4)
    torch.testing.assert_close(pool(x[:, [2, 0, 3, 1]]), pool(x))
    torch.testing.assert_close(pool(x[:, :1]), pool.c_proj(pool.v_proj(x[:, 0])))


def test_heads_must_divide_the_width():
    with pytest.raises(InputError, match="8 dimensions cannot have 3 heads"):
        AttentionPool(8, heads=3)


def test_published_sizes():
    with torch.device("meta"):
        pools = ImageAttentionPool(2048, grid=7), AttentionPool(768)
    millions = [sum(p.numel() for p in pool.parameters()) / 1e6 for pool in pools]
    assert millions == pytest.approx([16.9, 2.36], abs=0.02)


@pytest.mark.usefixtures("float64")
def test_image_pool_equals_the_full_attention():
    pool = ImageAttentionPool(8, grid=3, heads=2)
    fmap = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    slow = []
    for sample in fmap:
        cells = sample.flatten(1).T
        slow.append(slow_pool(pool, torch.cat([cells.mean(0, keepdim=True), cells]) + pool.positions))
    torch.testing.assert_close(pool(fmap), torch.stack(slow))


@pytest.mark.usefixtures("float64")
def test_image_pool_sees_positions_unless_the_table_is_zero():
    pool = ImageAttentionPool(8, grid=2, heads=2)
    fmap = torch.randn(1, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    flipped = fmap.flip(3)
    assert not torch.allclose(pool(flipped), pool(fmap), atol=1e-4)
    nn.init.zeros_(pool.positions)
    torch.testing.assert_close(pool(flipped), pool(fmap))


@pytest.mark.usefixtures("float64")
def test_position_table_of_another_grid():
    pool = ImageAttentionPool(4, grid=2, heads=1)
    with torch.no_grad():
        pool.positions[1:] = torch.tensor([[0.0], [1.0], [0.0], [1.0]])  # rises from left to right
    table = pool.position_table(2, 4)
    assert table.shape == (9, 4)
    assert torch.equal(table[0], pool.positions[0])
    cells = table[1:].reshape(2, 4, 4)
    torch.testing.assert_close(cells[0], cells[1])  # row by row
    assert (cells[0].diff(dim=0) > 0).all()
    assert pool(torch.zeros(1, 4, 2, 4)).shape == (1, 4)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("token_norm", [False, True])
def test_sentence_mean_equals_the_loop(token_norm):
    tokens = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([[-1, 0, 0, 1, 1, 1, -1], [-1, 0, 0, 0, -1, -1, -1]])
    mean, mask = sentence_mean(tokens, index, token_norm)
    assert mask.tolist() == [[True, True], [True, False]]
    for b in range(2):
        for m in range(2):
            members = [tokens[b, t] for t in range(7) if index[b, t] == m]
            if token_norm:
                members = [token / token.norm() for token in members]
            expected = sum(members) / len(members) if members else torch.zeros(3)
            torch.testing.assert_close(mean[b, m], expected)


def test_sentence_mean_by_hand_and_independent_of_padding():
    tokens = torch.tensor([[[9.0], [1.0], [3.0], [5.0], [9.0]]])
    index = torch.tensor([[-1, 0, 0, 1, -1]])
    mean, mask = sentence_mean(tokens, index)
    assert mean.flatten().tolist() == [2, 5] and mask.all()
    padded, _ = sentence_mean(F.pad(tokens, (0, 0, 0, 3), value=7.0), F.pad(index, (0, 3), value=-1))
    assert torch.equal(padded, mean)


@pytest.mark.usefixtures("float64")
def test_mean_query_pool_equals_the_loop(sentences):
    """The mean is of real rows, not of the padded length (baselines T16), and is no key."""
    x, mask, lengths = sentences
    pool = MeanQueryPool(8, heads=2)
    pooled, weights = pool(x, mask)
    projections = zip(
        pool.attention.in_proj_weight.chunk(3), pool.attention.in_proj_bias.chunk(3), strict=True
    )
    query, key, value = [lambda v, w=w, b=b: v @ w.T + b for w, b in projections]
    for b, length in enumerate(lengths.tolist()):
        valid = x[b, :length]
        q, k, v = query(valid.mean(0)), key(valid), value(valid)
        heads = [(k[:, c] @ q[c] / 2).softmax(0) for c in (slice(0, 4), slice(4, 8))]
        taken = torch.cat([head @ v[:, c] for head, c in zip(heads, (slice(0, 4), slice(4, 8)), strict=True)])
        torch.testing.assert_close(pooled[b], pool.attention.out_proj(taken))
        torch.testing.assert_close(weights[b, :length], sum(heads) / 2)
        assert (weights[b, length:] == 0).all()


def test_mean_query_pool_of_nothing_is_finite(sentences):
    x, mask, _ = sentences
    pooled, weights = MeanQueryPool(8, heads=2)(x, mask & torch.tensor([[True], [False], [True]]))
    assert pooled.isfinite().all() and weights.isfinite().all()


def test_words_of_sentences_by_hand():
    sentence = torch.tensor([[-1, 0, 0, 1, 1, -1], [-1, 0, 0, 0, -1, -1]])
    word = torch.tensor([[-1, 0, 0, 1, 2, -1], [-1, 0, 1, 1, -1, -1]])
    assert words_of_sentences(sentence, word).tolist() == [
        [[1, 0, 0], [0, 1, 1]],
        [[1, 1, 0], [0, 0, 0]],
    ]
