import copy

import pytest
import torch
import torch.nn.functional as F

from cmcgns.losses.sinkhorn import sinkhorn
from cmcgns.losses.tokens import clipped_weights
from cmcgns.models.pooling import word_sum
from cmcgns.models.text import encode_with_cls_attention
from cmcgns.objectives.base import total_loss

SLOTS = 14


def slow_words(x, weights, tau=0.1):
    """Word by word, with every empty slot written out as a row of its own."""
    total = 0.0
    for b in range(len(x.words)):
        rows = [x.words[b, t] for t in range(x.mask.shape[1]) if x.mask[b, t]]
        real = len(rows)
        rows += [x.words[b, -1]] * (SLOTS - real)
        seen = [(x.patches[b] @ row / tau).softmax(0) @ x.patches[b] for row in rows]
        scores = torch.stack(
            [torch.stack([torch.cosine_similarity(r, s, dim=0) for s in seen]) for r in rows]
        )
        for sided in (scores / tau, scores.T / tau):
            losses = F.cross_entropy(sided, torch.arange(SLOTS), reduction="none")
            total += (losses[:real] * weights[b][x.mask[b]]).sum() / 2
    return total / len(x.words)


def slow_patches(x, tau=0.1):
    total = 0.0
    for b in range(len(x.words)):
        words = x.words[b][x.mask[b]]
        told = torch.stack([(words @ patch / tau).softmax(0) @ words for patch in x.patches[b]])
        scores = F.normalize(told) @ x.patches[b].T / tau
        target = torch.arange(len(scores))
        total += (F.cross_entropy(scores.T, target) + F.cross_entropy(scores, target)) / 2
    return total / len(x.words)


@pytest.mark.usefixtures("float64")
def test_all_terms_equal_the_loop(method, batch_of):
    """The two directions of the global loss are summed, of the local ones averaged; padding stays a negative (T28)."""
    model, batch = (
        method("mgca"),
        batch_of([(4, 3), (2,), (3, 2, 4)]),
    )  # in training batch norm tells words apart
    terms, x = model(batch, "stage1"), model.encode(batch)
    scores, target = x.image @ x.report.T / 0.5, torch.arange(3)
    vectors = F.normalize(model.prototypes.weight)
    image, report = x.image @ vectors.T, x.report @ vectors.T
    prototypes = sum(
        -(sinkhorn(teacher, 0.05, 3) * (student / 0.2).log_softmax(1)).sum(1).mean() / 2
        for teacher, student in ((image, report), (report, image))
    )
    expected = {
        "global": F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target),
        "words": slow_words(x, clipped_weights(x.importance, x.mask, 0.1)),
        "patches": slow_patches(x),
        "prototypes": prototypes,
    }
    torch.testing.assert_close(terms, expected)
    assert set(model.weights("stage1").values()) == {1.0}


def test_words_alone_are_fewer_negatives(method, batch_of):
    batch = batch_of()
    slots, words = (method("mgca", word_slots=n).eval()(batch, "stage1")["words"] for n in (111, None))
    assert slots > words


@pytest.mark.usefixtures("float64")
def test_importance_is_the_attention_of_cls_on_the_word_itself(method, batch_of):
    """Its word pieces together, not the token after it, which the released code reads."""
    model, batch = method("mgca").eval(), batch_of([(4, 3)])
    _, attention = encode_with_cls_attention(model.text_encoder, batch.token_ids, batch.attention_mask)
    x = model.encode(batch)
    assert batch.word_index.tolist() == [[-1, 0, 1, 1, 2, 3, 4, 4, -1]]
    a = attention[0]
    expected = torch.stack([a[1], a[2] + a[3], a[4], a[5], a[6] + a[7], a.new_zeros(())])
    torch.testing.assert_close(x.importance[0], expected)
    assert x.counts.tolist() == [[1, 1, 1, 1, 1, SLOTS - 5]] and x.mask.tolist() == [[True] * 5 + [False]]


@pytest.mark.usefixtures("float64")
def test_words_are_sums_of_pieces_through_the_head(method, batch_of):
    model, batch = method("mgca").eval(), batch_of([(4, 3)])
    hidden = model.text_encoder(input_ids=batch.token_ids, attention_mask=batch.attention_mask)
    words, _ = word_sum(hidden.last_hidden_state, batch.word_index)
    expected = F.normalize(model.local_text(torch.cat([words[0], torch.zeros(1, 64)])))
    torch.testing.assert_close(model.encode(batch).words[0], expected)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_prototypes_wait_for_their_first_step(method, batch_of, weight_decay):
    model, batch = method("mgca", freeze_steps=2), batch_of()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=weight_decay)
    start, moved = F.normalize(model.prototypes.weight.detach()), []
    for _ in range(3):
        optimizer.zero_grad()
        total_loss(model(batch, "stage1"), model.weights("stage1")).backward()
        optimizer.step()
        moved.append(not torch.allclose(F.normalize(model.prototypes.weight.detach()), start, atol=1e-6))
    assert moved == [False, False, True]
    assert model.state_dict()["steps"] == 3


@pytest.mark.usefixtures("float64")
def test_prototypes_are_of_unit_length_in_either_mode(method, batch_of):
    model, batch = method("mgca"), batch_of()
    expected = copy.deepcopy(model).eval()(batch, "stage1")["prototypes"]
    with torch.no_grad():
        model.prototypes.weight.mul_(5)
    torch.testing.assert_close(copy.deepcopy(model).eval()(batch, "stage1")["prototypes"], expected)
    model(batch, "stage1")
    torch.testing.assert_close(model.prototypes.weight.norm(dim=1), torch.ones(6))


@pytest.mark.usefixtures("float64")
def test_upsampling_makes_more_patches(method, batch_of):
    model, batch = method("mgca", upsample=96).eval(), batch_of([(4, 3)])
    x = model.encode(batch)
    assert x.grid == (6, 6) and x.patches.shape[1] == 36
    larger = copy.deepcopy(batch)
    larger.images = F.interpolate(batch.images, (96, 96), mode="bilinear", align_corners=True)
    torch.testing.assert_close(x.patches, method("mgca").eval().encode(larger).patches)


@pytest.mark.usefixtures("float64")
def test_maps_are_the_mean_attention_of_a_sentence(method, batch_of):
    model, batch = method("mgca").eval(), batch_of([(4, 3), (2,)])
    maps, mask = model.attention_maps(batch)
    x = model.encode(batch)
    attention = (x.words @ x.patches.mT / 0.1).softmax(-1)
    assert mask.tolist() == [[True, True], [True, False]]
    torch.testing.assert_close(maps[0, 0].flatten(), attention[0, :3].mean(0))
    torch.testing.assert_close(maps[0, 1].flatten(), attention[0, 3:5].mean(0))
    assert (maps[1, 1] == 0).all()


def test_patches_lie_where_the_image_has_them(method, batch_of):
    """What changes in a corner of the image moves the patches of that corner (baselines T1)."""
    model, batch = method("mgca").eval(), batch_of([(4, 3)])
    cells = []
    model.local_image.register_forward_pre_hook(lambda _, inputs: cells.append(inputs[0]))
    model.encode(batch)
    for top, left in ((0, 0), (0, 48), (48, 0), (48, 48)):
        changed = copy.deepcopy(batch)
        changed.images[:, :, top : top + 16, left : left + 16] += 5
        model.encode(changed)
        moved = (cells[-1] - cells[0]).norm(dim=-1).view(4, 4)
        rows, columns = (moved.sum(dim) @ torch.arange(4.0) / moved.sum() for dim in (1, 0))
        assert (rows > 1.5, columns > 1.5) == (top > 0, left > 0)
