import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cmcgns.errors import InputError
from cmcgns.models.kmeans import SentenceClusters, chain_init, move_centroids, plus_plus_init

C = torch.eye(2)
POINTS = torch.tensor([[0.8, 0.6], [0.6, 0.8], [1.0, 0.0]])
ALWAYS = {"rule": "step"}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def unit_rows(n, dim=4, seed=0, dtype=None):
    return F.normalize(torch.randn(n, dim, generator=generator(seed), dtype=dtype), dim=-1)


def started(points, **options):
    clusters = SentenceClusters(points.shape[1], **{"num_clusters": 3, "start": ALWAYS, **options})
    clusters.update(points, points)
    return clusters


def state(clusters):
    return copy.deepcopy(clusters.state_dict())


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_hand_computed_update():
    mean, counts = move_centroids(C, POINTS, 0.1, renorm=False)
    torch.testing.assert_close(mean, torch.tensor([[0.99, 0.03], [0.06, 0.98]]))
    assert counts.tolist() == [2, 1]
    total, _ = move_centroids(C, POINTS, 0.1, reduction="sum", renorm=False)
    torch.testing.assert_close(total, torch.tensor([[1.08, 0.06], [0.06, 0.98]]))


def test_empty_cluster_stays():
    centroids = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -3.0]])
    moved, counts = move_centroids(centroids, POINTS, 0.5)
    assert counts.tolist() == [2, 1, 0]
    assert torch.equal(moved[2], centroids[2])
    torch.testing.assert_close(moved[:2].norm(dim=1), torch.ones(2))


def test_longer_centroids_attract_no_more_points():
    _, counts = move_centroids(torch.tensor([[9.0, 0.0], [0.0, 1.0]]), POINTS, 0.1)
    assert counts.tolist() == [2, 1]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_update_properties(seed):
    # in float64: a point between two centroids goes to either by the rounding of float32
    points, table = (unit_rows(n, seed=seed + n, dtype=torch.float64) for n in (20, 5))
    moved, counts = move_centroids(table, points, 0.3)
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(5, dtype=torch.float64))
    order = torch.randperm(20, generator=generator(seed))
    torch.testing.assert_close(move_centroids(table, points[order], 0.3)[0], moved)
    torch.testing.assert_close(move_centroids(table, points, 0.0)[0], table)
    lloyd, _ = move_centroids(table, points, 1.0)
    nearest = (points @ table.T).argmax(1)
    for c in range(5):
        members = points[nearest == c]
        assert len(members) == counts[c]
        expected = F.normalize(members.mean(0), dim=0) if len(members) else table[c]
        torch.testing.assert_close(lloyd[c], expected)


def test_chain_goes_to_the_farthest_from_the_last():
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    orders = {tuple(chain_init(points, 3, generator(seed)).tolist()) for seed in range(20)}
    assert (0, 2, 1) in orders  # starting at e1: e1, -e1, e2
    assert {order[0] for order in orders} == {0, 1, 2}


@pytest.mark.parametrize("init", [chain_init, plus_plus_init])
def test_initial_rows_are_distinct_and_repeatable(init):
    points = unit_rows(9)
    rows = init(points, 9, generator(3))
    assert sorted(rows.tolist()) == list(range(9))
    assert torch.equal(rows, init(points, 9, generator(3)))
    same_points = torch.ones(6, 1)
    assert sorted(init(same_points, 6, generator()).tolist()) == list(range(6))


def test_plus_plus_spreads_over_separated_groups():
    groups = torch.eye(4).repeat_interleave(10, 0)
    rows = plus_plus_init(groups, 4, generator())
    assert sorted((rows // 10).tolist()) == [0, 1, 2, 3]


def test_the_step_that_builds_the_table_does_not_use_it():
    clusters = SentenceClusters(4, num_clusters=3, start=ALWAYS)
    points = unit_rows(8)
    assert not clusters.started
    assert clusters.update(points, points) is False
    assert clusters.started
    assert all(any(torch.equal(row, point) for point in points) for row in clusters.centroids)
    assert clusters.update(points, points) is True
    assert clusters.step == 2


def test_small_batches_are_pooled_until_there_are_enough():
    clusters = SentenceClusters(4, num_clusters=3, init_pool=6, start=ALWAYS)
    for step in range(3):
        assert not clusters.started
        clusters.update(unit_rows(2, seed=step), unit_rows(2, seed=step))
    seen = torch.cat([unit_rows(2, seed=step) for step in range(3)])
    assert clusters.started
    assert all(any(torch.equal(row, point) for point in seen) for row in clusters.centroids)


def test_pool_keeps_the_newest_while_the_rule_holds_back():
    clusters = SentenceClusters(4, num_clusters=3, start={"rule": "step", "min_step": 5})
    for step in range(5):
        clusters.update(unit_rows(2, seed=step), unit_rows(2, seed=step))
        assert not clusters.started
    newest = torch.cat([unit_rows(2, seed=3), unit_rows(2, seed=4)])[-3:]
    assert torch.equal(clusters.pool, newest)
    clusters.update(unit_rows(2, seed=5), unit_rows(2, seed=5))
    assert clusters.started


@pytest.mark.parametrize(
    "rule,z1,z2,starts",
    [
        ("mean_cos", [1.0, 0.0], [0.0, 1.0], True),
        ("mean_cos", [1.0, 0.0], [1.0, 0.0], False),
        ("z2_spread", [1.0, 0.0], [1.0, 0.0], False),
        ("step", [1.0, 0.0], [1.0, 0.0], True),
    ],
)
def test_start_rules(rule, z1, z2, starts):
    clusters = SentenceClusters(2, num_clusters=2, start={"rule": rule, "threshold": 0.4})
    clusters.update(torch.tensor([z1] * 3), torch.tensor([z2] * 3))
    assert clusters.started is starts


def test_spread_rule_starts_when_features_differ():
    clusters = SentenceClusters(2, num_clusters=2, start={"rule": "z2_spread", "threshold": 0.4})
    spread = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    clusters.update(spread[:1].expand(3, 2), spread)
    assert clusters.started


def test_state_survives_saving_bit_by_bit():
    points = unit_rows(10)
    one = started(points, reseed_after=1)
    other = SentenceClusters(4, num_clusters=3, start=ALWAYS, reseed_after=1)
    assert not other.started
    other.load_state_dict(state(one))
    assert other.started
    for seed in range(5):
        for clusters in (one, other):
            clusters.update(unit_rows(6, seed=seed), unit_rows(6, seed=seed))
        assert same(one.state_dict(), other.state_dict())


def test_loading_a_state_that_has_not_started_forgets_the_start():
    fresh = SentenceClusters(4, num_clusters=3, start=ALWAYS)
    running = started(unit_rows(5))
    assert running.started
    running.load_state_dict(state(fresh))
    assert not running.started


def test_same_seed_same_table_whatever_the_global_state():
    tables = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        tables.append(started(unit_rows(30), init="kmeans++").centroids)
    assert torch.equal(*tables)
    assert not torch.equal(tables[0], started(unit_rows(30), init="kmeans++", seed=1).centroids)


def test_converges_to_the_means_of_separated_clusters():
    centres = torch.eye(3, 5)
    draw = generator()
    clusters = SentenceClusters(5, num_clusters=3, lr=0.2, start=ALWAYS)
    for _ in range(60):
        noise = 0.1 * torch.randn(30, 5, generator=draw)
        points = F.normalize(centres.repeat(10, 1) + noise, dim=-1)
        clusters.update(points, points)
    best = (clusters.centroids @ centres.T).max(0).values
    assert (best > 0.99).all()
    assert (clusters.counts == 10).all()


def test_sum_without_renorm_drifts_and_mean_does_not():
    points = F.normalize(torch.eye(3, 4).repeat_interleave(20, 0) + 0.05, dim=-1)
    drifting = started(points, lr=0.1, reduction="sum", renorm=False)
    steady = started(points, lr=0.1)
    for _ in range(30):
        drifting.update(points, points)
        steady.update(points, points)
    assert drifting.centroids.norm(dim=1).min() > 5
    torch.testing.assert_close(steady.centroids.norm(dim=1), torch.ones(3))


def test_dead_clusters_are_reseeded_only_on_request():
    points = unit_rows(10)
    lone = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    left, reseeded = started(points), started(points, reseed_after=3)
    for step in range(3):
        left.update(lone, lone)
        before = reseeded.centroids.clone()
        reseeded.update(lone, lone)
        if step < 2:
            assert torch.equal(reseeded.centroids, left.centroids)
    dead = left.counts == 0
    assert dead.sum() == 2
    assert torch.equal(reseeded.centroids[dead], lone.expand(2, 4))
    assert torch.equal(left.centroids[dead], before[dead])
    assert (reseeded.idle == 0).all() and (left.idle[dead] == 3).all()


def test_minibatch_mode_clusters_every_batch_anew():
    clusters = SentenceClusters(5, num_clusters=3, mode="minibatch", start=ALWAYS)
    for seed in range(3):
        noise = 0.05 * torch.randn(30, 5, generator=generator(seed))
        points = F.normalize(torch.eye(3, 5).roll(seed, 1).repeat(10, 1) + noise, dim=-1)
        assert clusters.update(points, points) is True
        means = F.normalize(points.view(10, 3, 5).mean(0), dim=-1)
        assert (clusters.cosines(means).max(1).values > 0.9999).all()
        assert (clusters.counts == 10).all()


def test_minibatch_mode_with_fewer_points_than_clusters():
    clusters = SentenceClusters(4, num_clusters=6, mode="minibatch", start=ALWAYS)
    points = unit_rows(3)
    assert clusters.update(points, points) is True
    cosines = clusters.cosines(points)
    assert (cosines[:, 3:] == -torch.inf).all()
    torch.testing.assert_close(cosines.max(1).values, torch.ones(3))
    assert clusters.update(points[:1], points[:1]) is False


def test_minibatch_mode_waits_for_the_start_rule():
    clusters = SentenceClusters(4, num_clusters=3, mode="minibatch", start={"rule": "step", "min_step": 1})
    points = unit_rows(5)
    assert clusters.update(points, points) is False
    assert clusters.update(points, points) is True


def test_gathered_points_of_all_processes_build_the_table():
    here, there = unit_rows(4), unit_rows(4, seed=1)
    alone = started(torch.cat([here, there]))
    together = SentenceClusters(4, num_clusters=3, start=ALWAYS)
    together.update(here, here, lambda x: torch.cat([x, there]))
    assert torch.equal(alone.centroids, together.centroids)


def test_bad_options_are_refused():
    for options in (
        {"mode": "full"},
        {"init": "random"},
        {"reduction": "max"},
        {"start": {"rule": "never"}},
        {"num_clusters": 1},
    ):
        with pytest.raises(InputError, match="expected"):
            SentenceClusters(4, **options)
