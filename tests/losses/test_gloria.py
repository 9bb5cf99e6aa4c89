import math

import pytest
import torch

from cmcgns.losses.gloria import local_loss, local_scores, word_attention

OPTIONS = {"temp1": 4.0, "temp2": 5.0, "chunk": 2}
LENGTHS = (3, 1, 5, 2)


def features(images=4, regions=6, dim=7, lengths=LENGTHS, seed=0):
    draw = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    words = torch.randn(len(lengths), max(lengths), dim, generator=draw) * mask.unsqueeze(-1)
    return torch.randn(images, regions, dim, generator=draw), words, mask


def slow_score(regions, words, temp1, temp2):
    """One image (P, D), one text (L, D): the formulas of the paper, number by number."""
    similarity = [[float(word @ region) for region in regions] for word in words]
    over_words = [
        [
            math.exp(similarity[w][r]) / sum(math.exp(similarity[k][r]) for k in range(len(words)))
            for r in range(len(regions))
        ]
        for w in range(len(words))
    ]
    total = 0.0
    for w, word in enumerate(words):
        shares = [math.exp(temp1 * x) for x in over_words[w]]
        context = sum(share / sum(shares) * region for share, region in zip(shares, regions, strict=True))
        total += math.exp(temp2 * float(word @ context) / float(word.norm() * context.norm()))
    return math.log(total)


def test_scores_equal_the_slow_loop():
    regions, words, mask = features()
    expected = [[slow_score(i, t[m], 4.0, 5.0) for t, m in zip(words, mask, strict=True)] for i in regions]
    torch.testing.assert_close(
        local_scores(regions, words, mask, **OPTIONS), torch.tensor(expected), atol=1e-5, rtol=1e-5
    )


def test_one_word_looks_everywhere_alike():
    """Softmax over a single word is 1 in every region, so its context is their mean: 2 pairs by hand."""
    regions = torch.tensor([[[2.0, 0.0], [0.0, 0.0]], [[0.0, 3.0], [0.0, 1.0]]])
    words = torch.tensor([[[5.0, 0.0]], [[3.0, 4.0]]])
    mask = torch.ones(2, 1, dtype=torch.bool)
    scores = local_scores(regions, words, mask, **OPTIONS)
    torch.testing.assert_close(scores, torch.tensor([[5.0, 3.0], [0.0, 4.0]]))
    there, back = local_loss(regions, words, mask, temp3=0.5)
    assert there.item() == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2, abs=1e-6)
    assert back.item() == pytest.approx(
        (math.log1p(math.exp(-2.5)) + math.log1p(math.exp(-0.5))) / 2, abs=1e-6
    )


def test_words_are_summed_not_averaged():
    regions, words, _ = features(lengths=(1, 1))
    twice, mask = words.repeat(1, 2, 1), torch.ones(2, 2, dtype=torch.bool)
    # twins share every region equally, so both attend as one word does, uniformly
    once = local_scores(regions, words, mask[:, :1], **OPTIONS)
    torch.testing.assert_close(local_scores(regions, twice, mask, **OPTIONS), once + math.log(2))


def test_attention_is_over_words_first_then_over_regions():
    similarity = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])  # 2 words, 2 regions
    attention = word_attention(similarity, torch.tensor([True, True]), temp1=4.0)
    first = 1 / (1 + math.exp(4 * (0.75 - 0.5)))
    second = 1 / (1 + math.exp(4 * (0.25 - 0.5)))
    torch.testing.assert_close(attention, torch.tensor([[first, 1 - first], [second, 1 - second]]))


def gradients(chunk, pad=0):
    regions, words, mask = features()
    words = torch.cat([words, torch.zeros(4, pad, 7)], 1)
    mask = torch.cat([mask, torch.zeros(4, pad, dtype=torch.bool)], 1)
    regions.requires_grad_(), words.requires_grad_()
    there, back = local_loss(regions, words, mask, chunk=chunk)
    (2 * there + back).backward()
    return there.detach(), back.detach(), regions.grad, words.grad[:, : max(LENGTHS)]


@pytest.mark.parametrize("chunk,pad", [(1, 0), (3, 0), (2, 4)])
def test_chunks_and_padding_change_neither_loss_nor_gradient(chunk, pad):
    torch.testing.assert_close(gradients(chunk, pad), gradients(chunk=4), atol=1e-5, rtol=1e-5)


def test_permuted_pairs_have_the_same_loss():
    regions, words, mask = features()
    order = torch.tensor([2, 0, 3, 1])
    permuted = local_loss(regions[order], words[order], mask[order])
    torch.testing.assert_close(permuted, local_loss(regions, words, mask), atol=1e-5, rtol=1e-5)


def test_no_attention_map_waits_for_the_backward_pass():
    regions, words, mask = features(images=8, regions=50, lengths=LENGTHS * 2)
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.update({x.data_ptr(): x}) or x, lambda x: x):
        local_loss(regions.requires_grad_(), words, mask, chunk=1)
    inputs = regions.numel() + words.numel() + mask.numel()
    assert sum(x.numel() for x in kept.values()) < inputs + 1000  # a chunk's map alone has 8 * 5 * 50 numbers


def test_half_precision_features_are_compared_in_fp32():
    half = [x.bfloat16() if x.is_floating_point() else x for x in features()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = local_loss(*half)
    expected = local_loss(half[0].float(), half[1].float(), half[2])
    assert losses[0].dtype == torch.float32
    torch.testing.assert_close(losses, expected)


def test_equal_features_are_finite():
    regions = torch.ones(3, 4, 7, requires_grad=True)
    words, mask = torch.zeros(3, 2, 7), torch.tensor([[True, True], [True, False], [True, True]])
    there, back = local_loss(regions, words, mask)
    (there + back).backward()
    assert torch.isfinite(there + back) and torch.isfinite(regions.grad).all()
