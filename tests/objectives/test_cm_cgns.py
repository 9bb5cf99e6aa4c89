import copy
import math
from pathlib import Path

import pytest
import torch

from cmcgns.errors import InputError
from cmcgns.losses.info_nce import info_nce
from cmcgns.losses.precision import cosines, unit
from cmcgns.losses.report import report_loss
from cmcgns.models.image import forward_features, local_regions
from cmcgns.objectives import cm_cgns
from cmcgns.objectives.base import total_loss
from cmcgns.settings import load

OFFICIAL = (
    load(Path(__file__).parents[2] / "params.yaml", "paper").methods["cm_cgns"].presets["official"].objective
)
ALIGNMENT = ["global", "report", "bml", "image"]


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def gradients(model, batch, phase="stage2"):
    model.zero_grad()
    terms = model(batch, phase, draw())
    total_loss(terms, model.weights(phase)).backward()
    return terms, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def warmed(model, batch):
    """The model after the step that builds its cluster table."""
    model(batch, "stage1")
    assert model.clusters.started
    return model


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("preset", [{}, OFFICIAL])
def test_padding_changes_no_loss_and_no_gradient(objective, batch_of, preset):
    model = warmed(objective(**preset), batch_of())
    other = copy.deepcopy(model)
    terms, grads = gradients(model, batch_of())
    padded_terms, padded_grads = gradients(other, batch_of(pad=9))
    torch.testing.assert_close(padded_terms, terms)
    for name, grad in grads.items():
        assert (padded_grads[name] - grad).abs().max() <= 1e-7 * (1 + grad.abs().max()), name


@pytest.mark.usefixtures("float64")
def test_features_of_a_pair_do_not_depend_on_its_neighbours(objective, batch_of):
    model = objective().eval()
    short, long = batch_of([(4, 3)]), batch_of([(4, 3), (2, 3, 4, 2, 5)])
    alone, together = model.encode(short), model.encode(long)
    assert together.mask[0].tolist() == [True, True, False, False, False]
    for name in ("f_i", "f_ri", "u_i", "u_r"):
        torch.testing.assert_close(getattr(together, name)[:1], getattr(alone, name))
    for name in ("f_r", "f_ir", "gates"):
        padded = getattr(together, name)[:1]
        torch.testing.assert_close(padded[:, :2], getattr(alone, name))
        assert (padded[:, 2:] == 0).all()


@pytest.mark.usefixtures("float64")
def test_first_step_is_plain_info_nce(objective, batch_of):
    model, batch = objective(), batch_of()
    features = copy.deepcopy(model).encode(batch)
    z1, z2 = unit(features.f_r[features.mask]), unit(features.f_ir[features.mask])
    terms = model(batch, "stage1")
    assert list(terms) == ALIGNMENT
    torch.testing.assert_close(terms["report"], report_loss(cosines(z1, z2), tau=0.01))
    assert terms["bml"].item() == 0


@pytest.mark.usefixtures("float64")
def test_conventional_alignment_has_no_clusters_and_no_bml(objective, batch_of):
    model, batch = objective(clustering=False), batch_of()
    for _ in range(2):
        terms = model(batch, "stage1")
    assert list(terms) == ["global", "report", "image"] == list(model.weights("stage1"))
    features = model.encode(batch)
    s = cosines(features.f_r[features.mask], features.f_ir[features.mask])
    torch.testing.assert_close(terms["report"], report_loss(s, tau=0.01))
    assert not model.clusters.started


@pytest.mark.parametrize("preset", [{}, OFFICIAL])
@pytest.mark.parametrize(
    "stage2_losses,names",
    [
        ("all", [*ALIGNMENT, "reconstruction"]),
        ("reconstruction", ["reconstruction"]),
        ("no_reconstruction", ALIGNMENT),
    ],
)
def test_phases_train_exactly_what_they_say(objective, batch_of, preset, stage2_losses, names):
    batch = batch_of()
    model = warmed(objective(**preset, stage2_losses=stage2_losses), batch)
    for phase, expected in (("stage1", ALIGNMENT), ("stage2", names)):
        terms, grads = gradients(model, batch, phase)
        assert list(terms) == list(model.weights(phase)) == expected
        unused = {id(p) for p in model.unused_parameters(phase)}
        without = {name for name, p in model.named_parameters() if id(p) in unused}
        assert set(grads) == {name for name, _ in model.named_parameters()} - without
        decoder = [grad for name, grad in grads.items() if name.startswith("decoder")]
        assert bool(decoder) is ("reconstruction" in expected)
        assert not decoder or sum(grad.abs().sum() for grad in decoder) > 0


def test_weights_multiply_the_lambdas(objective):
    model = objective(lambda_global=2, lambda_local=0.5, lambda_re=7, bml_weight=0.1)
    expected = {"global": 2, "report": 0.5, "bml": 0.05, "image": 0.5, "reconstruction": 7}
    assert model.weights("stage2") == expected
    assert model.weights("stage1") == {name: expected[name] for name in ALIGNMENT}
    with pytest.raises(ValueError, match="unknown phase"):
        model.weights("stage3")


def test_evaluation_changes_no_state_and_repeats(objective, batch_of):
    batch = batch_of()
    model = warmed(objective(), batch).eval()
    before = copy.deepcopy(model.state_dict())
    first = model(batch, "stage2", draw(5))
    second = model(batch, "stage2", draw(5))
    assert all(torch.equal(first[name], second[name]) for name in first)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    other_mask = model(batch, "stage2", draw(6))["reconstruction"]
    assert not torch.equal(other_mask, first["reconstruction"])


def test_evaluation_before_the_first_step_never_starts_the_clusters(objective, batch_of):
    model = objective().eval()
    assert model(batch_of(), "stage1")["bml"] == 0
    assert not model.clusters.started and model.clusters.step == 0


@pytest.mark.usefixtures("float64")
def test_mask_off_in_evaluation_needs_no_generator(objective, batch_of):
    batch = batch_of()
    model = objective(mask_in_eval=False).eval()
    features = model.encode(batch)
    expected = model.decoder(features.f_i, features.f_ri, features.grid)
    torch.testing.assert_close(model.reconstruct(features, None), expected)
    with pytest.raises(ValueError, match="generator"):
        model.train()(batch, "stage2")


def test_fully_masked_reconstruction_does_not_see_the_regions(objective, batch_of):
    model = objective(mask_ratio=1.0).eval()
    features = model.encode(batch_of())
    image = model.reconstruct(features, draw())
    assert image.shape == (8, 3, 64, 64)
    features.f_i = features.f_i + 10
    assert torch.equal(image, model.reconstruct(features, draw()))


def test_learnable_temperature_starts_at_tau_and_is_clamped(objective, batch_of):
    batch = batch_of()
    model = objective(tau_global=0.1, learnable_tau=True)
    assert model.log_scale.item() == pytest.approx(2.302585, abs=1e-6)
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    model(batch, "stage1")
    assert model.log_scale.item() == pytest.approx(math.log(100))
    assert objective().log_scale is None


@pytest.mark.usefixtures("float64")
def test_twins_of_one_study_are_no_negatives_on_request(objective, batch_of):
    batch = batch_of()
    batch.study = torch.tensor([0, 0, 1, 2, 3, 4, 4, 5])
    model = objective(mask_same_study_negatives=True, tau_global=0.5, global_reduction="mean").eval()
    features = model.encode(batch)
    s = cosines(features.u_i, features.u_r)
    expected = sum(info_nce(s, 0.5, batch.study[:, None] == batch.study)) / 2
    torch.testing.assert_close(model(batch, "stage1")["global"], expected)
    assert expected < sum(info_nce(s, 0.5)) / 2


@pytest.mark.parametrize(
    "options",
    [
        {
            "image_pool": "mean",
            "text_pool": "mean",
            "proj_type": "mlp",
            "attn_share": True,
            "attn_bias": False,
        },
        {"kmeans_mode": "minibatch", "kmeans_init": "kmeans++", "attn_input_norm": "l2"},
        {
            "exclude_own_cluster_from_hard_negatives": True,
            "exclude_false_negatives_from_denominator": True,
            "report_bidirectional": True,
            "local_gather": True,
            "mask_unit": "element",
        },
        {"hard_negative_set": "all_other_centroids", "hard_negative_form": "logit_offset"},
        {"attn_input_norm": "position", "attn_gate_start": "mean"},
        {"attn_input_norm": "position_l2"},
    ],
)
def test_alternatives_train(objective, batch_of, options):
    batch = batch_of()
    model = warmed(objective(**options), batch)
    plain = warmed(objective(), batch)
    terms, grads = gradients(model, batch)
    assert all(value.isfinite() for value in terms.values())
    assert all(grad.isfinite().all() for grad in grads.values())
    assert any(not torch.equal(terms[name], value) for name, value in plain(batch, "stage2", draw()).items())


@pytest.mark.usefixtures("float64")
def test_regions_standardised_at_their_place_hold_nothing_that_all_films_have_in_common(objective, batch_of):
    """What is the same on all films, at one place or at all, changes no cross-modal feature; without it does."""
    batch = batch_of()
    found = {}
    for norm in ("position", "position_l2", "l2"):
        model = objective(attn_input_norm=norm, attn_bias=False).train()
        before = model.encode(batch)
        with torch.no_grad():
            model.local_image.bias += 3
        after = model.encode(batch)
        found[norm] = [(a - b).abs().max() for a, b in ((before.f_i, after.f_i), (before.f_ir, after.f_ir))]
        if norm != "l2":
            raw = model.local_image(local_regions(forward_features(model.trunk, batch.images)))
            expected = (raw - raw.mean(0)) / (raw.var(0, unbiased=False) + 1e-5).sqrt()
            expected = unit(expected) if norm == "position_l2" else expected / expected.shape[-1] ** 0.5
            torch.testing.assert_close(after.f_i, expected)
    assert max(found["position"] + found["position_l2"]) < 1e-3 < min(found["l2"])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("shared", [True, False])
def test_processes_share_global_embeddings_and_on_request_sentences(objective, batch_of, monkeypatch, shared):
    """Two halves of a batch, one after the other, with the first half's rows handed to the second."""
    whole = batch_of()
    halves = [
        type(whole)(*(value[part] for value in vars(whole).values())) for part in (slice(4), slice(4, 8))
    ]
    model = warmed(objective(local_gather=shared, mask_same_study_negatives=True), whole).eval()
    expected = [model(half, "stage1") for half in (whole, halves[1])]
    sent = []
    for name in ("gather", "gather_uneven"):
        monkeypatch.setattr(cm_cgns, name, lambda x: sent.append(x) or x)
    model(halves[0], "stage1")
    for name in ("gather", "gather_uneven"):
        monkeypatch.setattr(cm_cgns, name, lambda x: torch.cat([sent.pop(0), x]))
    terms = model(halves[1], "stage1")
    assert not sent
    torch.testing.assert_close(terms["global"], expected[0]["global"])
    for name in ("report", "bml"):
        value = expected[0 if shared else 1][name]
        torch.testing.assert_close(terms[name], value)


@pytest.mark.parametrize("shared", [True, False])
def test_training_hands_sentences_of_all_processes_to_the_clusters(objective, batch_of, monkeypatch, shared):
    model, calls = objective(local_gather=shared), []
    monkeypatch.setattr(cm_cgns, "gather_uneven", lambda x: calls.append(len(x)) or torch.cat([x, x]))
    model(batch_of(), "stage1")
    assert calls == [16, 16]  # z1 and z2, once: for the loss or for the clusters


def test_excluding_false_negatives_lowers_the_report_loss(objective, batch_of):
    batch = batch_of()
    kept = warmed(objective(), batch)(batch, "stage1")["report"]
    excluded = warmed(objective(exclude_false_negatives_from_denominator=True), batch)(batch, "stage1")[
        "report"
    ]
    assert excluded < kept


def test_bf16_autocast_is_finite_and_close(objective, batch_of):
    batch = batch_of()
    model = warmed(objective(), batch)
    exact = copy.deepcopy(model)(batch, "stage2", draw())
    with torch.autocast("cpu", torch.bfloat16):
        terms = model(batch, "stage2", draw())
        total = total_loss(terms, model.weights("stage2"))
    total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    for name, value in terms.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), abs=0.1 + 0.1 * abs(exact[name].item())), (
            name
        )


@pytest.mark.parametrize("preset", [{}, OFFICIAL])
def test_identical_pairs_give_finite_losses_and_gradients(objective, batch_of, preset):
    batch = batch_of([(3, 3)] * 6)
    for name in ("images", "token_ids"):
        value = getattr(batch, name)
        setattr(batch, name, value[:1].expand_as(value).contiguous())
    batch.token_ids[:, 4:7] = batch.token_ids[:, 1:4]
    model = objective(**preset, kmeans_start={"rule": "step"})
    for _ in range(3):
        terms, grads = gradients(model, batch)
    assert model.clusters.started
    assert all(value.isfinite() for value in terms.values())
    assert all(grad.isfinite().all() for grad in grads.values())
    assert all(value.isfinite() for value in model.logs().values())


def train(model, batch, steps, lr=1e-3, optimizer=None):
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        terms = model(batch, "stage2", draw(step))
        total_loss(terms, model.weights("stage2")).backward()
        optimizer.step()
        losses.append({name: value.item() for name, value in terms.items()})
    return losses


def test_same_seed_same_first_losses(objective, batch_of):
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        runs.append(train(objective(), batch_of(), 5))
    assert runs[0] == runs[1]
    assert runs[0][:1] != train(objective(seed=1), batch_of(), 1)


def test_state_is_complete(objective, batch_of):
    batch = batch_of()
    model = objective(kmeans_reseed_after=2)
    train(model, batch, 2)
    resumed = objective(kmeans_reseed_after=2, seed=42)
    with torch.no_grad():
        for parameter in resumed.parameters():
            parameter.zero_()
    resumed.load_state_dict(copy.deepcopy(model.state_dict()))
    assert train(resumed, batch, 3) == train(model, batch, 3)
    for name, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_overfits_eight_pairs(objective, batch_of):
    model, batch = objective(), batch_of()
    losses = train(model, batch, 40, lr=1e-3)
    first, last = losses[1], losses[-1]
    assert last["global"] < 0.05
    assert first["report"] - last["report"] > 1
    assert last["image"] < -0.4
    assert last["reconstruction"] < 0.97 * first["reconstruction"]


@pytest.mark.usefixtures("float64")
def test_attention_maps(objective, batch_of):
    model, batch = objective().eval(), batch_of()
    maps, mask = model.attention_maps(batch)
    assert maps.shape == (8, 3, 2, 2) and mask.shape == (8, 3)
    assert mask.sum(1).tolist() == [2, 1, 3, 2, 3, 1, 2, 2]
    assert ((maps[mask] > 0) & (maps[mask] < 1)).all() and (maps[~mask] == 0).all()
    assert not maps.requires_grad
    torch.testing.assert_close(maps.flatten(2), model.encode(batch).gates)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"local_layout": "rows"}, "local_layout 'rows'"),
        ({"hard_negative_form": "none"}, "hard_negative_form"),
        ({"stage2_losses": "some"}, "stage2_losses"),
        ({"proj_type": "conv"}, "proj_type"),
        ({"image_size": 100}, "multiple of 32"),
        ({"dim": 30}, "heads"),
    ],
)
def test_bad_options_are_refused(objective, options, message):
    with pytest.raises(InputError, match=message):
        objective(**options)


def test_another_image_size_than_the_table_was_made_for(objective, batch_of):
    batch = batch_of()
    batch.images = torch.nn.functional.interpolate(batch.images, 96)
    terms = objective()(batch, "stage2", draw())
    assert all(value.isfinite() for value in terms.values())


@pytest.mark.usefixtures("float64")
def test_logs_are_detached_statistics_of_the_last_forward(objective, batch_of):
    model, batch = objective(), batch_of()
    assert model.logs() == {}
    model(batch, "stage1")
    first = model.logs()
    assert first["clustering_started"] == 1 and "hard_negative_cosine" not in first
    model(batch, "stage1")
    logs = model.logs()
    assert all(value.ndim == 0 and not value.requires_grad for value in logs.values())
    features = model.encode(batch)
    gates = features.gates[features.mask]
    assert logs["gate_mean"].item() == pytest.approx(gates.mean().item())
    assert logs["clusters_used"] == (model.clusters.counts > 0).float().mean()
    assert model.clusters.counts.sum() == 16
    assert logs["largest_cluster_share"] == model.clusters.counts.max() / 16
