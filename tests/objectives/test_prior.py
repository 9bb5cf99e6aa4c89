import copy
import math
from itertools import permutations

import pytest
import torch
import torch.nn.functional as F

from cmcgns.losses.reconstruction import reconstruction_loss
from cmcgns.models.image import local_regions
from cmcgns.objectives.base import total_loss

REPORTS = [(4, 3), (2,), (3, 2, 4)]


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def cosine(a, b):
    return torch.cosine_similarity(a, b, dim=-1)


def symmetric(a, b, scale):
    """Mean of both directions of InfoNCE, from the full table of cosines."""
    scores = scale * torch.stack([cosine(row, b) for row in a])
    target = torch.arange(len(a))
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2


def slow_alignment(model, x):
    """The three terms of stage 1, report by report."""
    image = text = 0.0
    for i, mask in enumerate(x.mask):
        f_i, f_ri = x.f_i[i], x.cross.report_to_image[i]
        h, g = model.predictor(f_i), model.predictor(f_ri)
        image -= (cosine(h, f_ri).mean() + cosine(g, f_i).mean()) / 2 / len(x.mask)
        f_r, f_ir = x.f_r[i][mask], x.cross.image_to_report[i][mask]
        text += symmetric(f_r, f_ir, model.log_scales[1].exp()) / len(x.mask)
    return {
        "global": symmetric(x.u_i, x.u_r, model.log_scales[0].exp()),
        "local_image": image,
        "local_text": text,
    }


@pytest.mark.usefixtures("float64")
def test_alignment_equals_the_loop(method, batch_of):
    """Sentences are contrasted with those of their own report only."""
    model, batch = method("prior", tau_global=0.02, tau_local=0.05).eval(), batch_of(REPORTS)
    terms, x = model(batch, "stage1"), model.encode(batch, False)
    torch.testing.assert_close(terms, slow_alignment(model, x))


@pytest.mark.usefixtures("float64")
def test_second_stage_aligns_mixtures_of_prototypes(method, batch_of):
    model, batch = method("prior").eval(), batch_of(REPORTS)
    terms, x = model(batch, "stage2"), model.encode(batch, True)
    total = count = 0
    for i, m in x.mask.nonzero():
        raw = model.encode(batch, False).f_r[i, m]
        mixed = (model.prototypes.vectors @ raw / 0.9).softmax(0) @ model.prototypes.vectors
        torch.testing.assert_close(x.f_r[i, m], mixed)
        total, count = total + (mixed - raw).abs().mean(), count + 1
    expected = {**slow_alignment(model, x), "prototypes": total / count}
    torch.testing.assert_close(terms, expected)


@pytest.mark.usefixtures("float64")
def test_third_stage_tells_the_report_from_the_image(method, batch_of):
    model, batch = method("prior", slots=3).eval(), batch_of(REPORTS)
    terms, x = model(batch, "stage3"), model.encode(batch, True)
    vectors = model.prototypes.vectors
    report, divergences, retold = 0.0, [], []
    for i, outputs in enumerate(model.report_decoder(x.f_i)):
        count = int(x.mask[i].sum())
        targets = torch.cat([x.f_r[i][:count], torch.zeros(3 - count, 32)])
        orders = [outputs[list(order)] for order in permutations(range(3))]
        matched = min(orders, key=lambda order: (order - targets).abs().sum().item())
        report += (matched - targets).abs().mean() / 3
        p = (x.sentences[i][:count] @ vectors.T).log_softmax(-1)
        q = (matched[:count] @ vectors.T).log_softmax(-1)
        divergences += list((p.exp() * (p - q)).sum(-1))
        retold.append(
            model.text_pool(((matched[:count] @ vectors.T / 0.9).softmax(-1) @ vectors).unsqueeze(0))
        )
    decoded = model.image_decoder(x.f_i, x.cross.report_to_image, x.grid)
    expected = {
        "report": report,
        "choice": sum(divergences) / len(divergences),
        "report_global": symmetric(torch.cat(retold), x.u_r, model.log_scales[0].exp()),
        "image": reconstruction_loss(decoded, batch.images.mean(1, keepdim=True)),
    }
    torch.testing.assert_close({k: terms[k] for k in expected}, expected)


def test_weights_of_the_stages(method):
    model = method("prior", lambda_global=7.0, lambda_prototype=3.0)
    one = {"global": 1, "local_image": 1, "local_text": 1}
    assert model.weights("stage1") == one
    assert model.weights("stage2") == {**one, "prototypes": 3}
    rest = {"prototypes": 3, "image": 1, "report": 3, "choice": 1, "report_global": 1}
    assert model.weights("stage3") == {**one, "global": 7, **rest}
    with pytest.raises(ValueError, match="unknown phase"):
        model.weights("stage4")


def test_each_stage_trains_what_it_uses(method, batch_of):
    model = method("prior")
    idle = {
        "stage1": {"prototypes", "image_decoder", "report_decoder"},
        "stage2": {"image_decoder", "report_decoder"},
        "stage3": set(),
    }
    for phase in model.phases:
        model.zero_grad()
        total_loss(model(batch_of(), phase, draw()), model.weights(phase)).backward()
        without = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is None}
        assert without == idle[phase]
        unused = {id(p) for p in model.unused_parameters(phase)}
        assert unused == {id(p) for p in model.parameters() if p.grad is None}


def test_noise_is_drawn_in_training_only(method, batch_of):
    """The released code samples its mixtures in validation too (baselines T19)."""
    model, batch = method("prior"), batch_of()
    for phase, draws in (("stage1", False), ("stage2", True), ("stage3", True)):
        first, second = (copy.deepcopy(model)(batch, phase, draw(seed)) for seed in (1, 2))
        assert torch.equal(first["global"], second["global"]) is not draws
    with pytest.raises(ValueError, match="generator"):
        model(batch, "stage2")
    model.eval()
    for phase in model.phases:
        first, second = model(batch, phase, draw(1)), model(batch, phase)
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_scales_start_at_the_temperature_and_may_be_bounded(method, batch_of):
    """The released ones are free, and start where CLIP's end (baselines T8)."""
    for bound, expected in ((None, 100.0), (50.0, 50.0)):
        model = method("prior", tau_global=0.01, max_scale=bound)
        model.eval()(batch_of(), "stage1")
        assert model.log_scales[0].exp().item() == pytest.approx(100, rel=1e-5)
        model.train()(batch_of(), "stage1")
        assert model.log_scales.exp().tolist() == pytest.approx([expected, 10], rel=1e-5)
    assert model.log_scales.requires_grad


@pytest.mark.usefixtures("float64")
def test_a_grey_stem_of_summed_kernels_is_the_same(method, batch_of):
    """The released trunk sees one channel: three equal ones give the same map."""
    trunk = method("prior").trunk
    grey = batch_of().images[:, :1]
    summed = F.conv2d(grey, trunk.conv1.weight.sum(1, keepdim=True), stride=2, padding=3)
    torch.testing.assert_close(trunk.conv1(grey.expand(-1, 3, -1, -1)), summed)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("layout", ["spatial", "channel_view"])
def test_regions_follow_the_layout(method, batch_of, layout):
    """Only "spatial" ones are places (baselines T1)."""
    model, batch = method("prior", local_layout=layout).eval(), batch_of([(4, 3)])
    fmap = torch.randn(1, 512, 2, 2, generator=draw())
    model.trunk.layer4 = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Unflatten(1, (256, 4, 4)))
    model.trunk.layer4.register_forward_hook(lambda *_: fmap)
    regions = model.encode(batch, False).f_i
    torch.testing.assert_close(regions, model.local_image(local_regions(fmap, layout)))
    changed = fmap.clone()
    changed[:, :, 1, 0] += 5
    model.trunk.layer4.register_forward_hook(lambda *_: changed)
    moved = (model.encode(batch, False).f_i - regions)[0].norm(dim=-1) > 1e-4
    assert moved.tolist() == ([False, False, True, False] if layout == "spatial" else [True] * 4)


@pytest.mark.usefixtures("float64")
def test_only_the_third_stage_cuts_long_reports(method, batch_of):
    model, batch = method("prior", slots=2).eval(), batch_of(REPORTS)
    terms = model(batch, "stage3")
    assert all(value.isfinite() for value in terms.values())
    x = model.encode(batch, True, slots=2)
    assert x.mask.tolist() == [[True, True], [True, False], [True, True]]
    torch.testing.assert_close(terms["global"], symmetric(x.u_i, x.u_r, model.log_scales[0].exp()))
    whole = model.encode(batch, True)
    assert not torch.allclose(whole.u_r[2], x.u_r[2], atol=1e-4)
    torch.testing.assert_close(model.embed(batch)[1], F.normalize(model.encode(batch, False).u_r))


@pytest.mark.usefixtures("float64")
def test_embeddings_mix_prototypes_once_these_are_trained(method, batch_of):
    batch = batch_of()
    for phase, mixes in (("stage1", False), ("stage2", True), ("stage3", True)):
        model = method("prior")
        model(batch, phase, draw())
        other = method("prior")
        other.load_state_dict(model.state_dict())  # the flag is remembered
        u, v = other.eval().embed(batch)
        x = other.encode(batch, mixes)
        torch.testing.assert_close((u, v), (F.normalize(x.u_i), F.normalize(x.u_r)))
        maps, mask = other.attention_maps(batch)
        assert torch.equal(maps.flatten(2), x.cross.gates) and torch.equal(mask, x.mask)


def test_temperatures_are_learned(method, batch_of):
    model = method("prior")
    total_loss(model(batch_of(), "stage1", draw()), model.weights("stage1")).backward()
    assert (model.log_scales.grad != 0).all()
    assert math.isclose(model.log_scales[0].exp().item(), 10, rel_tol=1e-5)
