import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from cmcgns.errors import InputError
from cmcgns.objectives.base import total_loss

SENTENCES = [(4,), (2,), (6,), (5,)]


def slow_words(model, ids, mask, word_index):
    """The words of one text with its [CLS] first and its [SEP] last, each the sum of its pieces in the last 2 layers."""
    out = model.text_encoder(input_ids=ids[mask][None], output_hidden_states=True)
    tokens = out.hidden_states[-1][0] + out.hidden_states[-2][0]
    words = [tokens[0]]
    for token, before, now in zip(tokens[1:-1], word_index[mask][:-2], word_index[mask][1:-1], strict=True):
        if now == before:
            words[-1] = words[-1] + token
        else:
            words.append(token)
    return torch.stack([*words, tokens[-1]])


def slow_terms(model, batch):
    """Both losses over pairs, images and texts one by one, as the formulas say."""
    images, regions, texts, words = [], [], [], []
    maps = {}
    handle = model.trunk.layer3.register_forward_hook(lambda *args: maps.update(layer3=args[2]))
    for image, ids, mask, index in zip(
        batch.images, batch.token_ids, batch.attention_mask, batch.word_index, strict=True
    ):
        images.append(model.image_head(model.trunk(image[None]))[0])
        convolution = model.region_head.weight[:, :, None, None]
        regions.append(F.conv2d(maps["layer3"], convolution)[0].flatten(1).T)
        all_words = slow_words(model, ids, mask, index)
        texts.append(all_words.sum(0) / 97)
        words.append(all_words[:-1])
    handle.remove()
    cosines = [[float(x @ y / (x.norm() * y.norm())) for y in texts] for x in images]
    scores = []
    for region in regions:
        scores.append([])
        for word in words:
            attention = (4 * (word @ region.T).softmax(0)).softmax(1)
            context = attention @ region
            cosine = [float(w @ c / (w.norm() * c.norm())) for w, c in zip(word, context, strict=True)]
            scores[-1].append(math.log(sum(math.exp(5 * x) for x in cosine)))
    return {"global": both_ways(cosines), "local": both_ways(scores)}


def both_ways(scores):
    total = 0.0
    for table in (scores, list(zip(*scores, strict=True))):
        for i, row in enumerate(table):
            total += math.log(sum(math.exp(10 * x) for x in row)) - 10 * row[i]
    return total / len(scores)


@pytest.mark.usefixtures("float64")
def test_terms_equal_the_slow_loop(method, batch_of):
    model, batch = method("gloria").eval(), batch_of(SENTENCES, pad=3)
    with torch.no_grad():
        terms, expected = model(batch, "stage1"), slow_terms(model, batch)
    assert terms["global"].item() == pytest.approx(expected["global"])
    assert terms["local"].item() == pytest.approx(expected["local"])
    assert model.weights("stage1") == {"global": 1.0, "local": 1.0} and model.text == "sentence"


def test_every_parameter_is_trained(method, batch_of):
    model = method("gloria")
    total_loss(model(batch_of(SENTENCES), "stage1"), model.weights("stage1")).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.unused_parameters("stage1") == []


@pytest.mark.parametrize("term,without", [("local", "image_head"), ("global", "region_head")])
def test_each_term_trains_its_own_head(method, batch_of, term, without):
    model = method("gloria")
    model(batch_of(SENTENCES), "stage1")[term].backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None and "head" in name}
    assert silent == {name for name, _ in model.named_parameters() if name.startswith(without)}
    layer4 = next(model.trunk.layer4.parameters()).grad
    assert (layer4 is None) == (term == "local")


@pytest.mark.usefixtures("float64")
def test_sep_is_in_the_global_text_and_in_no_word(method, batch_of):
    """A last token that attention cannot reach from elsewhere: the text encoder is made token-wise."""
    model, batch = method("gloria").eval(), batch_of(SENTENCES)
    for layer in model.text_encoder.encoder.layer:
        layer.attention.self.value.weight.data.zero_()
    other = dataclasses.replace(batch, token_ids=torch.where(batch.token_ids == 2, 3, batch.token_ids))
    with torch.no_grad():
        before, after = model.encode(batch), model.encode(other)
    torch.testing.assert_close(before.words, after.words)
    assert (before.text - after.text).abs().max() > 1e-3
    assert before.mask.sum(1).tolist() == [
        1 + 3,
        1 + 2,
        1 + 4,
        1 + 4,
    ]  # [CLS], then pieces 3 and 6 joined to 2 and 5
    cls = dataclasses.replace(batch, token_ids=torch.where(batch.token_ids == 1, 4, batch.token_ids))
    with torch.no_grad():
        changed = (model.encode(cls).words - before.words).abs().amax(-1) > 1e-4
    assert changed[:, 0].all() and not changed[:, 1:].any()


@pytest.mark.usefixtures("float64")
def test_images_are_enlarged_with_corners_on_corners(method, batch_of):
    batch = batch_of(SENTENCES)
    model, plain = method("gloria", upsample=96).eval(), method("gloria").eval()
    big = dataclasses.replace(
        batch, images=F.interpolate(batch.images, 96, mode="bilinear", align_corners=True)
    )
    with torch.no_grad():
        torch.testing.assert_close(model(batch, "stage1"), plain(big, "stage1"))
        assert model.encode(batch).grid == (6, 6) and plain.encode(batch).grid == (4, 4)


@pytest.mark.usefixtures("float64")
def test_maps_are_the_mean_attention_of_a_sentences_words(method, batch_of):
    model, batch = method("gloria").eval(), batch_of([(4, 3), (2,)])
    maps, real = model.attention_maps(batch)
    assert real.tolist() == [[True, True], [True, False]]
    with torch.no_grad():
        features = model.encode(batch)
        words = slow_words(model, batch.token_ids[0], batch.attention_mask[0], batch.word_index[0])[:-1]
    attention = (4 * (words @ features.regions[0].T).softmax(0)).softmax(1)  # [CLS], 3 words, 2 words
    expected = torch.stack([attention[1:4].mean(0), attention[4:6].mean(0)]).unflatten(1, (4, 4))
    torch.testing.assert_close(maps[0], expected)
    torch.testing.assert_close(maps.sum((2, 3)), real.float())


def test_regions_keep_their_place(method, batch_of):
    """A change in the lower right corner of the image moves the lower right region most."""
    model, batch = method("gloria").eval(), batch_of([(3,)])
    changed = batch.images.clone()
    changed[:, :, 56:, 56:] += 2
    with torch.no_grad():
        before = model.encode(batch)
        after = model.encode(dataclasses.replace(batch, images=changed))
    moved = (after.regions - before.regions).norm(dim=-1)[0]
    assert moved.argmax().item() == 15


def test_as_many_layers_as_there_are(method):
    with pytest.raises(InputError, match="last_layers"):
        method("gloria", last_layers=3)
