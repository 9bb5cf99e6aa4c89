import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcgns.losses.precision import cosines, unit
from cmcgns.losses.report import FORMS, SETS, hard_negative_logits, report_loss

S = torch.tensor([[0.8, 0.2], [0.1, 0.9]], dtype=torch.float64)
# Centroid 0 is sentence 0's second choice, centroid 1 is sentence 1's; centroid 2 is best for both. So the columns
# 0 and 1 are the matrix h of method.md section 11 item 2.
Q = torch.tensor([[0.5, 0.3, 0.99], [0.4, 0.6, 0.99]], dtype=torch.float64)


def slow_terms(q, tau, mu, which, form, exclude_own):
    """Per sentence, what the hard negatives add to its denominator: the N x 2N form of 4.2 and 4.3, literally."""
    order = q.argsort(1, descending=True)
    n, clusters = q.shape
    for i in range(n):
        best, second = order[i, 0].item(), order[i, 1].item()
        if which == "batch_second":
            columns = [(order[k, 1].item(), k == i) for k in range(n)]
        elif which == "all_other_centroids":
            columns = [(c, c == second) for c in range(clusters) if c != best and q[i, c] > -math.inf]
        else:
            columns = [(second, True)]
        total = 0.0
        for c, hard in columns:
            cosine = q[i, c].item()
            if exclude_own and c == best and not hard:
                continue
            if form == "prob_weight":
                total += (mu if hard else 1) * math.exp(cosine / tau)
            elif form == "logit_offset":
                total += math.exp(cosine / tau + (mu if hard else 0))
            else:
                total += math.exp(mu * cosine / tau) if hard else 1.0
        yield total


def slow_report_loss(s, q, tau, mu, which, form, exclude_own):
    losses = []
    for i, extra in enumerate(slow_terms(q, tau, mu, which, form, exclude_own)):
        denominator = sum(math.exp(s[i, k].item() / tau) for k in range(len(s))) + extra
        losses.append(math.log(denominator) - s[i, i].item() / tau)
    return sum(losses) / len(losses)


def random_cosines(seed, n=6, k=5, dim=4):
    z1, z2, c = torch.randn(3, max(n, k), dim, generator=torch.Generator().manual_seed(seed))
    return cosines(z1[:n], z2[:n]), cosines(z1[:n], c[:k])


def test_hand_computed_values():
    def loss(q, **options):
        return report_loss(S, q, **options).item()

    assert loss(Q, tau=0.5, mu=3) == pytest.approx(1.183407, abs=1e-6)  # rows 1.198611 and 1.168204
    assert loss(Q, tau=0.5, mu=1) == pytest.approx(0.773652, abs=1e-6)
    assert loss(None, tau=0.5) == pytest.approx((0.263282 + 0.183901) / 2, abs=1e-6)
    official = loss(Q, tau=1.0, mu=3, hard_negative_form="official_logit_product")
    assert official == pytest.approx(1.425738, abs=1e-6)  # rows 1.389263 and 1.462214


@pytest.mark.parametrize("n", [2, 50, 350])
def test_all_cosines_zero(n):
    s, q = torch.zeros(n, n), torch.zeros(n, 8)
    q[:, 0] = 1e-9  # one best centroid; the others tie at 0
    paper = report_loss(s, q, tau=0.01, mu=3).item()
    assert paper == pytest.approx(math.log(n + n - 1 + 3), abs=1e-5)
    for tau in (0.5, 1.0):
        official = report_loss(s, q, tau=tau, mu=3, hard_negative_form="official_logit_product").item()
        assert official == pytest.approx(math.log(2 * n), abs=1e-5)


@pytest.mark.parametrize("which,form,own", itertools.product(SETS, FORMS, (False, True)))
@pytest.mark.parametrize("tau,mu", [(0.05, 3.0), (1.0, 0.5)])
def test_column_per_centroid_equals_column_per_sentence(which, form, own, tau, mu):
    for seed in range(4):
        s, q = random_cosines(seed)
        fast = report_loss(
            s, q, tau=tau, mu=mu, hard_negative_set=which, hard_negative_form=form, exclude_own_cluster=own
        )
        assert fast.item() == pytest.approx(slow_report_loss(s, q, tau, mu, which, form, own), abs=1e-5)


@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("form", FORMS)
def test_unused_centroids_change_nothing(which, form):
    s, q = random_cosines(1)
    padded = torch.cat([q, torch.full((6, 2), -torch.inf)], 1).requires_grad_()
    options = {"tau": 0.1, "hard_negative_set": which, "hard_negative_form": form}
    loss = report_loss(s, padded, **options)
    torch.testing.assert_close(loss, report_loss(s, q, **options))
    loss.backward()
    assert padded.grad.isfinite().all() and (padded.grad[:, 5:] == 0).all()


def test_second_best_never_best_is_the_hard_negative():
    q = torch.tensor([[0.9, 0.5, 0.1]])
    own = hard_negative_logits(q, tau=1.0, mu=1.0, hard_negative_set="own_second")
    torch.testing.assert_close(own, torch.tensor([[-math.inf, 0.5, -math.inf]]))


def test_own_cluster_is_left_out_on_request():
    q = torch.tensor([[0.9, 0.5, 0.1], [0.5, 0.9, 0.1]])  # each one's best is the other's second
    kept = hard_negative_logits(q, tau=1.0, mu=1.0)
    left_out = hard_negative_logits(q, tau=1.0, mu=1.0, exclude_own_cluster=True)
    assert kept[0, 0] == pytest.approx(0.9) and left_out[0, 0] == -math.inf
    assert torch.equal(kept[0, 1:], left_out[0, 1:])


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_monotone_and_invariant(seed):
    s, q = random_cosines(seed)
    base = report_loss(s, q, tau=0.2, mu=3)
    assert report_loss(s, q, tau=0.2, mu=3.5) > base
    worse = s.clone()
    worse[1, 4] += 0.05
    assert report_loss(worse, q, tau=0.2, mu=3) > base
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(report_loss(s[order][:, order], q[order], tau=0.2, mu=3), base)
    plain = report_loss(s, tau=0.2)
    torch.testing.assert_close(report_loss(s, q, tau=0.2, mu=0, hard_negative_set="own_second"), plain)
    assert base > plain


def test_scale_invariant_and_centroids_are_constants():
    generator = torch.Generator().manual_seed(0)
    f_r = torch.randn(5, 8, generator=generator, requires_grad=True)
    f_ir = torch.randn(5, 8, generator=generator, requires_grad=True)
    centroids = unit(torch.randn(4, 8, generator=generator))

    def loss(scale_r, scale_ir):
        return report_loss(cosines(scale_r * f_r, scale_ir * f_ir), cosines(f_r, centroids))

    torch.testing.assert_close(loss(3.0, 0.2), loss(1.0, 1.0), rtol=1e-5, atol=1e-5)
    loss(1.0, 1.0).backward()
    assert f_r.grad.abs().sum() > 0 and f_ir.grad.abs().sum() > 0


def test_excluded_candidates_leave_the_denominator_but_never_the_pair():
    s = torch.tensor([[0.8, 0.2, 0.5], [0.1, 0.9, 0.3], [0.0, 0.4, 0.7]])
    exclude = torch.tensor([[True, True, False], [False, False, False], [False, False, False]])
    expected = (s[0, [0, 2]].logsumexp(0) - 0.8 + s[1].logsumexp(0) - 0.9 + s[2].logsumexp(0) - 0.7) / 3
    torch.testing.assert_close(report_loss(s, tau=1.0, exclude=exclude), expected)


def test_bidirectional_is_the_mean_of_both_directions():
    s, _ = random_cosines(2)
    both = report_loss(s, tau=0.1, bidirectional=True)
    torch.testing.assert_close(both, (report_loss(s, tau=0.1) + report_loss(s.T, tau=0.1)) / 2)


def test_official_form_cannot_reach_zero():
    n = 350
    perfect = torch.eye(n)  # 350 directions cannot all point away from each other
    q = torch.full((n, 8), -1.0)
    bound = report_loss(perfect, q, tau=1.0, mu=3, hard_negative_form="official_logit_product")
    assert bound.item() == pytest.approx(5.55, abs=0.01)
    assert report_loss(perfect, q, tau=0.01, mu=3).item() < 1e-6


def test_unknown_variants_are_refused():
    for options in ({"hard_negative_set": "third"}, {"hard_negative_form": "sum"}):
        with pytest.raises(ValueError, match="unknown hard negatives"):
            report_loss(S, Q, **options)
