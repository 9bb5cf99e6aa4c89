import math

import pytest
import torch

from cmcgns.losses.precision import unit
from cmcgns.models.attention import SharedKeyAttention, SigmoidCrossAttention, cosine_attention

D = 8


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    regions = torch.randn(3, 5, D, generator=generator)
    sentences = torch.randn(3, 4, D, generator=generator)
    mask = torch.arange(4) < torch.tensor([[4], [1], [2]])
    return regions, sentences, mask


def slow_attention(layer, regions, sentences):
    """Equations 5 and 6 for one pair, gate by gate."""
    w_i, w_r = layer.image_qkv, layer.text_qkv

    def part(linear, which, x):
        rows = slice(which * D, (which + 1) * D)
        return linear.weight[rows] @ x + (0 if linear.bias is None else linear.bias[rows])

    f_ir = torch.zeros(len(sentences), D)
    f_ri = torch.zeros(len(regions), D)
    for m, sentence in enumerate(sentences):
        for p, region in enumerate(regions):
            gate = torch.sigmoid(part(w_r, 0, sentence) @ part(w_i, 1, region) / math.sqrt(D))
            f_ir[m] = f_ir[m] + gate * part(w_i, 2, region)
            gate = torch.sigmoid(part(w_i, 0, region) @ part(w_r, 1, sentence) / math.sqrt(D))
            f_ri[p] = f_ri[p] + gate * part(w_r, 2, sentence)
    return f_ir, f_ri


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("share", [True, False])
def test_batched_equals_the_loop(inputs, bias, share):
    regions, sentences, mask = inputs
    layer = SigmoidCrossAttention(D, bias=bias, share=share)
    out = layer(regions, sentences, mask)
    for b in range(3):
        length = int(mask[b].sum())
        f_ir, f_ri = slow_attention(layer, regions[b], sentences[b, :length])
        torch.testing.assert_close(out.image_to_report[b, :length], f_ir)
        torch.testing.assert_close(out.report_to_image[b], f_ri)
        assert (out.image_to_report[b, length:] == 0).all() and (out.gates[b, length:] == 0).all()


def test_sharing_halves_the_weights():
    def count(**options):
        return sum(p.numel() for p in SigmoidCrossAttention(D, **options).parameters())

    assert count() == 6 * D * (D + 1)
    assert count(share=True) == 3 * D * (D + 1)
    assert count(bias=False) == 6 * D * D


@pytest.mark.usefixtures("float64")
def test_zero_queries_and_keys_give_half_of_the_sum(inputs):
    regions, sentences, mask = inputs
    layer = SigmoidCrossAttention(D)
    with torch.no_grad():
        for linear in (layer.image_qkv, layer.text_qkv):
            linear.weight[: 2 * D] = 0
            linear.bias[: 2 * D] = 0
    out = layer(regions, sentences, mask)
    assert (out.gates[mask] == 0.5).all()
    values = layer.image_qkv(regions).chunk(3, -1)[2].sum(1, keepdim=True)
    expected = 0.5 * values * mask.unsqueeze(-1)
    torch.testing.assert_close(out.image_to_report, expected)


@pytest.mark.usefixtures("float64")
def test_gates_that_start_at_the_mean_are_the_equation_s_with_a_lower_score(inputs):
    regions, sentences, mask = inputs
    half, mean = (SigmoidCrossAttention(D, gate_start=start) for start in ("half", "mean"))
    mean.load_state_dict(half.state_dict())
    usual, lower = half(regions, sentences, mask), mean(regions, sentences, mask)
    # logit(gate) - ln P, P = 5
    odds = usual.gates[mask] / (1 - usual.gates[mask]) / 5
    torch.testing.assert_close(lower.gates[mask], odds / (1 + odds))
    assert (lower.gates[~mask] == 0).all()
    torch.testing.assert_close(lower.report_to_image, usual.report_to_image)
    with torch.no_grad():
        for linear in (mean.image_qkv, mean.text_qkv):
            linear.weight[: 2 * D] = 0
            linear.bias[: 2 * D] = 0
    torch.testing.assert_close(mean(regions, sentences, mask).gates[mask], torch.full((7, 5), 1 / 6))


@pytest.mark.usefixtures("float64")
def test_regions_may_be_permuted_and_a_double_counts_twice(inputs):
    regions, sentences, mask = inputs
    layer = SigmoidCrossAttention(D)
    base = layer(regions, sentences, mask)
    order = [3, 0, 4, 1, 2]
    moved = layer(regions[:, order], sentences, mask)
    torch.testing.assert_close(moved.image_to_report, base.image_to_report)
    torch.testing.assert_close(moved.report_to_image, base.report_to_image[:, order])
    alone = layer(regions[:, :1], sentences, mask).image_to_report
    twice = layer(regions[:, [0, 0]], sentences, mask).image_to_report
    torch.testing.assert_close(twice, 2 * alone)


def test_fp32_under_autocast(inputs):
    regions, sentences, mask = inputs
    layer = SigmoidCrossAttention(D)
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer(regions, sentences, mask)
    assert all(torch.equal(a, b) for a, b in zip(inside, layer(regions, sentences, mask), strict=True))


def slow_shared(layer, regions, sentences):
    """One pair without padding, before the batch norm: both sides of softmax attention, row by row."""

    def take(queries, keys):
        rows = []
        for query in queries:
            scores = torch.stack([layer.key(query) @ layer.key(key) / math.sqrt(D) for key in keys])
            rows.append(sum(w * layer.value(key) for w, key in zip(scores.softmax(0), keys, strict=True)))
        return layer.output(torch.stack(rows))

    return take(sentences, regions), take(regions, sentences)


@pytest.mark.usefixtures("float64")
def test_shared_keys_equal_the_loop_and_share_a_batch_norm(inputs):
    regions, sentences, mask = inputs
    layer = SharedKeyAttention(D)
    f_ir, f_ri, gates = layer(regions, sentences, mask)
    slow = [slow_shared(layer, r, s[m]) for r, s, m in zip(regions, sentences, mask, strict=True)]
    slow_ir, slow_ri = (torch.cat(rows) for rows in zip(*slow, strict=True))
    reference = torch.nn.BatchNorm1d(D)
    torch.testing.assert_close(f_ri.flatten(0, 1), reference(slow_ri))
    torch.testing.assert_close(f_ir[mask], reference(slow_ir))
    torch.testing.assert_close(layer.norm.running_mean, reference.running_mean)
    torch.testing.assert_close(gates.sum(-1), mask.float())
    assert (f_ir[~mask] == 0).all()


@pytest.mark.usefixtures("float64")
def test_shared_keys_do_not_see_padding(inputs):
    """Batch norm over attended sentences included padding in the released code (baselines T16)."""
    regions, sentences, mask = inputs
    layer = SharedKeyAttention(D)
    expected = layer(regions, sentences, mask)
    louder = torch.where(mask.unsqueeze(-1), sentences, 50.0)
    torch.testing.assert_close(tuple(layer(regions, louder, mask)), tuple(expected))
    none = layer(regions, sentences, torch.tensor([[True] * 4, [False] * 4, [True] * 4]))
    assert all(value.isfinite().all() for value in none)


@pytest.mark.usefixtures("float64")
def test_cosine_attention_equals_the_loop(inputs):
    regions, sentences, mask = inputs
    regions, sentences = unit(regions), unit(sentences)
    context, weights = cosine_attention(regions, sentences, 0.1, mask)
    for b in range(3):
        for p in range(5):
            real = sentences[b][mask[b]]
            expected = (real @ regions[b, p] / 0.1).softmax(0)
            torch.testing.assert_close(weights[b, p][mask[b]], expected)
            torch.testing.assert_close(context[b, p], expected @ real)
    assert (weights * ~mask.unsqueeze(1) == 0).all()
    everything, _ = cosine_attention(sentences, regions, 0.1)
    torch.testing.assert_close(
        everything, cosine_attention(sentences, regions, 0.1, torch.ones(3, 5).bool())[0]
    )
