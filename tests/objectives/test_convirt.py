import dataclasses
import math

import pytest
import torch

from cmcgns.objectives import convirt
from cmcgns.objectives.base import total_loss

LAMBDA = {"image_to_text": 0.75, "text_to_image": 0.25}


def slow_embeddings(model, batch):
    """Each pair alone, its text without padding, layer by layer."""
    u, v = [], []
    for image, ids, mask in zip(batch.images, batch.token_ids, batch.attention_mask, strict=True):
        tokens = model.text_encoder(input_ids=ids[mask][None]).last_hidden_state[0]
        pooled = torch.stack([max(column) for column in tokens.T])
        u.append(two_layers(model.image_head, model.trunk(image[None])[0]))
        v.append(two_layers(model.text_head, pooled))
    return torch.stack(u), torch.stack(v)


def two_layers(head, x):
    first, second = (layer for layer in head if isinstance(layer, torch.nn.Linear))
    return second.weight @ (first.weight @ x + first.bias).clamp(min=0) + second.bias


def slow_direction(a, b, tau):
    cosine = [[float(x @ y / (x.norm() * y.norm())) / tau for y in b] for x in a]
    return sum(
        math.log(sum(math.exp(s) for s in row)) - row[i] for i, row in enumerate(cosine)
    ) / len(cosine)  # fmt: skip


@pytest.mark.usefixtures("float64")
def test_terms_equal_the_slow_loop(method, batch_of):
    model, batch = method("convirt").eval(), batch_of([(4,), (2,), (6,), (3,)], pad=2)
    with torch.no_grad():
        u, v = slow_embeddings(model, batch)
        terms = model(batch, "stage1")
    assert terms["image_to_text"].item() == pytest.approx(slow_direction(u, v, 0.1))
    assert terms["text_to_image"].item() == pytest.approx(slow_direction(v, u, 0.1))
    expected = 0.75 * slow_direction(u, v, 0.1) + 0.25 * slow_direction(v, u, 0.1)
    assert total_loss(terms, model.weights("stage1")).item() == pytest.approx(expected)
    for found, slow in zip(model.embed(batch), (u, v), strict=True):
        torch.testing.assert_close(found, slow / slow.norm(dim=-1, keepdim=True))


def test_official_defaults_and_weights(method):
    model = method("convirt")
    assert model.text == "sentence" and model.tau == 0.1 and model.weights("stage1") == LAMBDA
    even = method("convirt", image_to_text_weight=0.5)
    assert even.weights("stage1") == {"image_to_text": 0.5, "text_to_image": 0.5}


def test_heads_have_one_hidden_layer_and_no_batch_norm(method):
    model = method("convirt")
    for head in (model.image_head, model.text_head):
        assert [type(layer).__name__ for layer in head] == ["Linear", "ReLU", "Linear"]


@pytest.mark.parametrize("frozen_layers", [0, 1, 2])
def test_embeddings_and_lower_layers_get_no_gradient(method, batch_of, frozen_layers):
    model = method("convirt", frozen_layers=frozen_layers)
    frozen = {id(p) for p in model.unused_parameters("stage1")}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    total_loss(model(batch_of(), "stage1"), model.weights("stage1")).backward()
    prefixes = ["embeddings.", "encoder.layer.0.", "encoder.layer.1."][: frozen_layers + 1]
    kept = [f"text_encoder.{prefix}" for prefix in prefixes] if frozen_layers else []
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == any(name.startswith(prefix) for prefix in kept), name


@pytest.mark.usefixtures("float64")
def test_padding_never_wins_the_maximum(method, batch_of):
    """Every token vector is negative here, so that a zero of padding would be the largest."""
    model = method("convirt").eval()
    norm = model.text_encoder.encoder.layer[1].output.LayerNorm
    with torch.no_grad():
        norm.bias.fill_(-50.0)
    (short, long), both = (model.embed(batch_of([(2,)], pad=n))[1] for n in (0, 7)), batch_of([(2,), (9,)])
    torch.testing.assert_close(long, short)
    torch.testing.assert_close(model.embed(both)[1][:1], short)


@pytest.mark.usefixtures("float64")
def test_negatives_of_other_processes(method, batch_of, monkeypatch):
    """As if another process held the second half of the batch."""
    model, batch = method("convirt").eval(), batch_of()
    theirs = [x[4:] for x in model.embed(batch)]
    whole = model(batch, "stage1")
    half = {name: None if x is None else x[:4] for name, x in vars(batch).items()}
    half = dataclasses.replace(batch, **half)
    monkeypatch.setattr(convirt, "gather", lambda x: torch.cat([x, theirs.pop(0)]))
    torch.testing.assert_close(model(half, "stage1"), whole)
    alone = method("convirt", gather_negatives=False).eval()(half, "stage1")
    assert alone["image_to_text"] < whole["image_to_text"]
