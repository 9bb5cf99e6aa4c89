"""One training step against a literal, sample-by-sample transcription of the formulas of method.md 1-6."""

from __future__ import annotations

import copy
import inspect
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from cmcgns.models.image import forward_features
from cmcgns.objectives.cm_cgns import CMCGNS
from cmcgns.settings import load

OFFICIAL = (
    load(Path(__file__).parents[2] / "params.yaml", "paper").methods["cm_cgns"].presets["official"].objective
)
MU, ALPHA, BETA = 3.0, 0.2, 0.5


def cos(a, b):
    return a @ b / (a.norm() * b.norm())


def encode_one(model, fmap, ids, index, official):
    """Sections 1 and 2 for one unpadded pair: f_I, f_R, f_IR, f_RI, u_I, u_R."""
    channels = fmap.shape[0]
    if official:
        regions = fmap.reshape(-1, channels)
    else:
        regions = torch.stack([fmap[:, r, c] for r in range(fmap.shape[1]) for c in range(fmap.shape[2])])
    f_i = model.local_image(regions)
    tokens = model.local_text(model.text_encoder(input_ids=ids[None]).last_hidden_state[0])
    if official:
        f_i = torch.stack([row / row.norm() for row in f_i])
        tokens = torch.stack([row / row.norm() for row in tokens])
    f_r = torch.stack([tokens[index == m].mean(0) for m in range(int(index.max()) + 1)])
    root = math.sqrt(f_i.shape[1])
    q_i, k_i, v_i = model.attention.image_qkv(f_i).chunk(3, 1)
    q_r, k_r, v_r = model.attention.text_qkv(f_r).chunk(3, 1)
    f_ir = torch.sigmoid(q_r @ k_i.T / root) @ v_i
    f_ri = torch.sigmoid(q_i @ k_r.T / root) @ v_r
    u_i = model.global_image(model.image_pool(fmap[None]))[0]
    return f_i, f_r, f_ir, f_ri, u_i, model.text_pool(f_r[None])[0]


def global_loss(u_i, u_r, tau, official):
    n = len(u_i)
    s = [[cos(u_i[i], u_r[j]) / tau for j in range(n)] for i in range(n)]
    there = -sum(s[i][i] - torch.stack(s[i]).logsumexp(0) for i in range(n)) / n
    back = -sum(s[i][i] - torch.stack([s[j][i] for j in range(n)]).logsumexp(0) for i in range(n)) / n
    return (there + back) / 2 if official else there + back


def updated_table(table, z2, lr, official):
    """4.4: every feature goes to its nearest centroid; sum (official) or mean and unit length (paper)."""
    new = table.clone()
    nearest = [max(range(len(table)), key=lambda c: cos(z, table[c]).item()) for z in z2]
    for c in range(len(table)):
        members = [z for z, home in zip(z2, nearest, strict=True) if home == c]
        if members:
            total = torch.stack(members).sum(0)
            new[c] = (1 - lr) * table[c] + lr * (total if official else total / len(members))
            if not official:
                new[c] = new[c] / new[c].norm()
    return new


def report_and_bml(z1, z2, table, official):
    """4.2, 4.3 and 4.5 with one column per sentence, as 2N logits."""
    n = len(z1)
    ranked = [sorted(range(len(table)), key=lambda c: -cos(z, table[c]).item()) for z in z1]
    home = [max(range(len(table)), key=lambda c: cos(z, table[c]).item()) for z in z2]
    s = [[cos(z1[i], z2[j]) for j in range(n)] for i in range(n)]
    h = [[cos(z1[i], table[ranked[k][1]]) for k in range(n)] for i in range(n)]
    report, penalties, constant = 0.0, [], 0.0
    for i in range(n):
        if official:
            logits = s[i] + [MU * h[i][k] if k == i else 0 * h[i][k] for k in range(n)]
            report = report - s[i][i] + torch.stack(logits).logsumexp(0)
        else:
            tau = 0.01
            logits = [x / tau for x in s[i]]
            logits += [h[i][k] / tau + (math.log(MU) if k == i else 0.0) for k in range(n)]
            report = report - s[i][i] / tau + torch.stack(logits).logsumexp(0)
        for j in range(n):
            member = ranked[j][0] if official else home[j]
            if i != j and member == ranked[i][0]:
                d = s[i][j] - s[i][i]
                penalties.append(torch.relu(d + ALPHA) + torch.relu(-d - BETA))
            else:
                constant += ALPHA
    assert penalties, "the comparison needs false negatives"
    if official:
        return report / n, (sum(penalties) + constant) / n**2
    return report / n, sum(penalties) / len(penalties)


def simsiam(model, all_f_i, all_f_ri):
    total = []
    for f_i, f_ri in zip(all_f_i, all_f_ri, strict=True):
        for x, y in zip(f_i, f_ri, strict=True):
            h_x, h_y = model.predictor(x), model.predictor(y)
            total.append(-(cos(h_x, y.detach()) + cos(h_y, x.detach())) / 2)
    return sum(total) / len(total)


def reconstruction(model, all_f_i, all_f_ri, images, generator, official):
    f_i, f_ri = torch.stack(all_f_i), torch.stack(all_f_ri)
    shape = (len(f_i), 1, f_i.shape[2]) if official else (*f_i.shape[:2], 1)
    f_i = f_i * (torch.rand(shape, generator=generator) >= 0.5)
    side = math.isqrt(f_i.shape[1])
    planes = torch.cat([f_i, f_ri], 2).transpose(1, 2).reshape(len(f_i), -1, side, side)
    convolutions = [layer for layer in model.decoder.layers if isinstance(layer, torch.nn.Conv2d)]
    for number, convolution in enumerate(convolutions):
        planes = convolution(planes)
        if number < 4 or official:
            planes = F.relu(planes)
        planes = F.interpolate(planes, scale_factor=2, mode="bilinear", align_corners=True)
    return (torch.tanh(planes) - images).abs().mean()


def literal_step(model, batch, generator, official):
    fmaps = forward_features(model.trunk, batch.images)
    parts = []
    for b, fmap in enumerate(fmaps):
        length = int(batch.attention_mask[b].sum())
        ids, index = batch.token_ids[b, :length], batch.sentence_index[b, :length]
        parts.append(encode_one(model, fmap, ids, index, official))
    f_i, f_r, f_ir, f_ri, u_i, u_r = zip(*parts, strict=True)
    z1 = torch.stack([z / z.norm() for z in torch.cat(f_r)])
    z2 = torch.stack([z / z.norm() for z in torch.cat(f_ir)])
    table = updated_table(model.clusters.centroids, z2.detach(), 1e-3, official)
    report, bml = report_and_bml(z1, z2, table, official)
    tau = 1 / model.log_scale.exp() if official else 0.01
    return table, {
        "global": global_loss(u_i, u_r, tau, official),
        "report": report,
        "bml": bml,
        "image": simsiam(model, f_i, f_ri),
        "reconstruction": reconstruction(model, f_i, f_ri, batch.images, generator, official),
    }


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("preset,weights", [({}, (1, 1, 1, 1, 10)), (OFFICIAL, (1, 1, 1e-4, 1, 10))])
def test_one_step_equals_the_formulas(objective, batch_of, preset, weights):
    batch, official = batch_of(), preset is OFFICIAL
    model = objective(**preset)
    warm_up = torch.Generator().manual_seed(0)
    model(batch, "stage2", warm_up)  # builds the table
    assert model.clusters.started
    literal = copy.deepcopy(model)
    expected_table, expected = literal_step(literal, batch, torch.Generator().manual_seed(1), official)
    terms = model(batch, "stage2", torch.Generator().manual_seed(1))
    torch.testing.assert_close(terms, expected)
    torch.testing.assert_close(model.clusters.centroids, expected_table)
    assert tuple(model.weights("stage2").values()) == weights
    assert (terms["reconstruction"] - batch.images.abs().mean()).abs() > 1e-3  # the decoder draws something
    sum(model.weights("stage2")[name] * terms[name] for name in terms).backward()
    sum(model.weights("stage2")[name] * expected[name] for name in expected).backward()
    for (name, one), two in zip(model.named_parameters(), literal.parameters(), strict=True):
        assert (one.grad - two.grad).abs().max() <= 1e-7 * (1 + two.grad.abs().max()), name


def test_official_names_parameters_and_differs_from_every_default():
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(CMCGNS.__init__).parameters.items()
    }
    assert set(OFFICIAL) <= set(defaults)
    assert all(defaults[name] != value for name, value in OFFICIAL.items())
