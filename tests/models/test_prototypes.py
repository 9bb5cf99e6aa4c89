import pytest
import torch
import torch.nn.functional as F

from cmcgns.models.prototypes import SentencePrototypes

pytestmark = pytest.mark.usefixtures("float64")


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_mixture_without_noise():
    bank = SentencePrototypes(4, 6, tau=0.9)
    sentences = draw(2, 3, 4)
    mixture, logits = bank(sentences)
    torch.testing.assert_close(logits, sentences @ bank.vectors.T)
    torch.testing.assert_close(mixture, torch.softmax(logits / 0.9, -1) @ bank.vectors)


def test_noise_is_gumbel_and_comes_from_the_generator():
    bank = SentencePrototypes(4, 6, tau=0.9)
    sentences = draw(2, 3, 4)
    mixture, logits = bank(sentences, torch.Generator().manual_seed(5))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        chosen = F.gumbel_softmax(logits, tau=0.9)
    torch.testing.assert_close(mixture, chosen @ bank.vectors)
    torch.testing.assert_close(logits, bank(sentences)[1])  # the logits have no noise


def test_a_cold_mixture_is_the_best_prototype():
    bank = SentencePrototypes(3, 5, tau=1e-3)
    with torch.no_grad():
        bank.vectors.copy_(3 * F.normalize(draw(5, 3)))  # equally long: the nearest has the largest product
    mixture, _ = bank(bank.vectors[2] + 0.01)
    torch.testing.assert_close(mixture, bank.vectors[2])
