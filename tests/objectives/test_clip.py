import dataclasses
import math

import pytest
import torch

from cmcgns.objectives import clip
from cmcgns.objectives.base import total_loss


def slow_loss(u, v, scale):
    """The mean of both cross entropies, as the pseudo-code of the paper."""
    logits = [[scale * float(x @ y / (x.norm() * y.norm())) for y in v] for x in u]
    n = len(logits)
    rows = sum(math.log(sum(math.exp(s) for s in logits[i])) - logits[i][i] for i in range(n)) / n
    columns = (
        sum(math.log(sum(math.exp(logits[j][i]) for j in range(n))) - logits[i][i] for i in range(n)) / n
    )
    return rows, columns


@pytest.mark.usefixtures("float64")
def test_terms_equal_the_slow_loop(method, batch_of):
    model, batch = method("clip").eval(), batch_of(pad=2)
    u, v = [], []
    with torch.no_grad():
        for image, ids, mask in zip(batch.images, batch.token_ids, batch.attention_mask, strict=True):
            u.append(model.image_head.weight @ model.trunk(image[None])[0])
            hidden = model.text_encoder(input_ids=ids[mask][None]).last_hidden_state[0]
            v.append(model.text_head.weight @ hidden[0])
        terms = model(batch, "stage1")
    rows, columns = slow_loss(u, v, 1 / 0.07)
    assert terms["image_to_text"].item() == pytest.approx(rows)
    assert terms["text_to_image"].item() == pytest.approx(columns)
    total = total_loss(terms, model.weights("stage1"))
    assert total.item() == pytest.approx((rows + columns) / 2)


def test_projections_are_linear_without_bias(method):
    model = method("clip", dim=400)
    for head in (model.image_head, model.text_head):
        assert isinstance(head, torch.nn.Linear) and head.bias is None
        assert head.weight.std().item() == pytest.approx(head.in_features**-0.5, rel=0.02)


def test_every_parameter_is_trained_and_the_scale_escapes_weight_decay(method, batch_of):
    model = method("clip")
    total_loss(model(batch_of(), "stage1"), model.weights("stage1")).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.unused_parameters("stage1") == []
    assert model.log_scale.ndim == 0 and model.log_scale.grad.abs() > 0
    assert model.log_scale.item() == pytest.approx(math.log(1 / 0.07))
    assert "log_scale" in model.state_dict()


@pytest.mark.parametrize("value,bounded", [(9.0, math.log(100)), (-2.0, 0.0), (3.0, 3.0)])
def test_the_scale_is_bounded_before_each_training_step(method, batch_of, value, bounded):
    """What a step made of it is mended before it is used; evaluation uses the bound and changes nothing."""
    model, batch = method("clip"), batch_of()
    model.log_scale.data.fill_(value)
    model.eval()(batch, "stage1")
    assert model.log_scale.item() == value
    assert model.logs()["temperature"].item() == pytest.approx(math.exp(-bounded))
    model.train()
    total_loss(model(batch, "stage1"), model.weights("stage1")).backward()
    assert model.log_scale.item() == pytest.approx(bounded)
    assert model.log_scale.grad.abs() > 0  # the bound does not cut the gradient that leads away from it


@pytest.mark.usefixtures("float64")
def test_the_gradient_of_the_scale_is_that_of_the_formula(method, batch_of):
    """d/dt of the mean cross entropy at scale e^t: e^t * (expected cosine - own cosine), both directions halved."""
    model, batch = method("clip").eval(), batch_of()
    total_loss(model(batch, "stage1"), model.weights("stage1")).backward()
    u, v = model.embed(batch)
    cosine, scale = u @ v.T, 1 / 0.07
    expected = 0.0
    for direction in (cosine, cosine.T):
        shares = (scale * direction).softmax(1)
        expected += 0.5 * scale * ((shares * direction).sum(1) - direction.diagonal()).mean().item()
    assert model.log_scale.grad.item() == pytest.approx(expected)


@pytest.mark.usefixtures("float64")
def test_negatives_of_other_processes(method, batch_of, monkeypatch):
    """As if another process held the second half of the batch."""
    model, batch = method("clip").eval(), batch_of()
    theirs = [x[4:] for x in model.embed(batch)]
    whole = model(batch, "stage1")
    half = {name: None if x is None else x[:4] for name, x in vars(batch).items()}
    monkeypatch.setattr(clip, "gather", lambda x: torch.cat([x, theirs.pop(0)]))
    mine = model(dataclasses.replace(batch, **half), "stage1")
    torch.testing.assert_close(mine, whole)
