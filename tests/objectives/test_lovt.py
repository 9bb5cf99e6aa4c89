import copy
import math

import pytest
import torch

from cmcgns.models.text import lower_layers
from cmcgns.objectives.base import total_loss
from cmcgns.objectives.lovt import neighbours


def cosine(a, b):
    return torch.cosine_similarity(a, b, dim=-1)


def slow_global(a, b, tau):
    """Rows of a against rows of b, pair by pair."""
    scores = [[cosine(x, y) / tau for y in b] for x in a]
    return sum(torch.stack(row).logsumexp(0) - row[i] for i, row in enumerate(scores)) / len(a)


def slow_local(a, b, weights, omega):
    """One sample of real tokens: l_p of every token, weighted."""
    total = 0.0
    for p in range(len(a)):
        scores = torch.stack([cosine(a[p], y) / 0.3 for y in b])
        total += weights[p] * (scores.logsumexp(0) - omega[p] @ scores)
    return total


@pytest.mark.usefixtures("float64")
def test_all_terms_equal_the_loop(method, batch_of):
    model, batch = (
        method("lovt"),
        batch_of([(4, 3), (2,), (3, 2, 4)]),
    )  # in training batch norm tells tokens apart
    terms, x = model(batch, "stage1"), model.encode(batch)
    near = neighbours(x.grid, 0.5, 1.0, torch.device("cpu")).double()
    regions, sentences = 0.0, 0.0
    for i in range(3):
        m = x.mask[i]
        for a, b in ((x.f_i, x.f_ri), (x.f_ri, x.f_i)):
            regions += slow_local(a[i], b[i], x.region_weights[i], near) / 3
        for a, b in ((x.f_r, x.f_ir), (x.f_ir, x.f_r)):
            omega = torch.eye(int(m.sum()))
            sentences += slow_local(a[i][m], b[i][m], x.sentence_weights[i][m], omega) / 3
    expected = {
        "image_to_report": slow_global(x.u_i, x.u_r, 0.1),
        "report_to_image": slow_global(x.u_r, x.u_i, 0.1),
        "regions": regions,
        "sentences": sentences,
    }
    torch.testing.assert_close(terms, expected)
    official = {"image_to_report": 0.75, "report_to_image": 0.25, "regions": 0.375, "sentences": 0.375}
    assert model.weights("stage1") == official


def test_neighbours_by_hand():
    """2 x 2: the diagonal is sqrt(8), a side 1 / sqrt(8) = 0.35, and the opposite corner just 0.5."""
    side, corner = math.exp(-1 / math.sqrt(8)), math.exp(-0.5)
    row = torch.tensor([1, side, side, corner]) / (1 + 2 * side + corner)
    near = neighbours((2, 2), 0.500001, 1.0, torch.device("cpu"))
    torch.testing.assert_close(near[0], row)
    torch.testing.assert_close(near[1], row[[1, 0, 3, 2]])
    near = neighbours((1, 4), 0.3, 2.0, torch.device("cpu"))  # a step is 1 / sqrt(17) = 0.24 of the diagonal
    decay = math.exp(-2 / math.sqrt(17))
    expected = torch.tensor([decay, 1, decay, 0]) / (1 + 2 * decay)
    torch.testing.assert_close(near[1], expected)
    assert torch.equal(neighbours((7, 7), 0.0, 1.0, torch.device("cpu")), torch.eye(49))


@pytest.mark.usefixtures("float64")
def test_a_single_sentence_has_no_sentence_loss(method, batch_of):
    """Its only candidate is itself (baselines T16)."""
    terms = method("lovt")(batch_of([(4,), (2,), (5,)]), "stage1")
    assert terms["sentences"].item() == pytest.approx(0, abs=1e-9)


@pytest.mark.usefixtures("float64")
def test_pools_and_batch_norms_see_no_padding(method, batch_of):
    """A report's neighbours decide how far it is padded: in training they change batch norms, but not its pool."""
    model = method("lovt")
    alone, together = batch_of([(4, 3), (2,)]), batch_of([(4, 3), (2,), (2, 2, 2, 2)])
    weights = model.encode(alone).sentence_weights
    longer = model.encode(together).sentence_weights
    torch.testing.assert_close(longer[:2, :2], weights)
    assert (longer[:2, 2:] == 0).all()


def test_local_weights_carry_no_gradient_but_the_pools_learn(method, batch_of):
    model, batch = method("lovt"), batch_of()
    terms = model(batch, "stage1")
    (terms["regions"] + terms["sentences"]).backward()
    for pool in (model.image_pool, model.text_pool):
        assert all(p.grad is None for p in pool.parameters())
    total_loss(model(batch, "stage1"), model.weights("stage1")).backward()
    assert model.image_pool.attention.in_proj_weight.grad.abs().sum() > 0


def test_frozen_layers_are_the_lower_ones(method):
    model = method("lovt", frozen_layers=1)
    unused = {id(p) for p in model.unused_parameters("stage1")}
    assert unused == {id(p) for p in lower_layers(model.text_encoder, 1)}
    assert id(model.text_encoder.encoder.layer[1].output.dense.weight) not in unused
    assert method("lovt", frozen_layers=0).unused_parameters("stage1") == []


def test_maps_are_the_cross_attention_at_its_place(method, batch_of):
    """A tile of the image that changes moves the attention of its own cell most (baselines T1)."""
    model, batch = method("lovt", frozen_layers=0).eval(), batch_of([(4, 3)])
    maps, mask = model.attention_maps(batch)
    torch.testing.assert_close(maps.sum((2, 3)), mask.float())
    x = model.encode(batch)
    for cell, (row, column) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        changed = copy.deepcopy(batch)
        changed.images[:, :, row * 32 + 8 : row * 32 + 24, column * 32 + 8 : column * 32 + 24] += 3
        moved = (model.encode(changed).f_i - x.f_i)[0].norm(dim=-1)
        assert moved.argmax() == cell
