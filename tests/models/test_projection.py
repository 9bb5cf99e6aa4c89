import pytest
import torch

from cmcgns.models.projection import apply_rows, build_mlp

pytestmark = pytest.mark.usefixtures("float64")


def test_padding_is_not_seen_by_batch_norm():
    head = build_mlp(5, 7, 4, norm="last_plain")
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(4) < torch.tensor([4, 1, 2])[:, None]
    out = apply_rows(head, x, mask)
    torch.testing.assert_close(out[mask], head(x[mask]))
    assert (out[~mask] == 0).all()
    torch.testing.assert_close(out[mask].mean(0), torch.zeros(4))
    louder = torch.where(mask.unsqueeze(-1), x, x + 100)
    torch.testing.assert_close(apply_rows(head, louder, mask), out)
