import pytest
import torch

from cmcgns.objectives.sentence_maps import sentence_maps, sentence_texts


def test_every_sentence_stands_between_the_special_tokens(batch_of):
    batch = batch_of([(2, 3), (4,)], pad=2)
    token_ids, mask, real = sentence_texts(batch)
    assert real.tolist() == [[True, True], [True, False]]
    first, second = batch.token_ids
    expected = [
        [1, *first[1:3].tolist(), 2],
        [1, *first[3:6].tolist(), 2],
        [1, *second[1:5].tolist(), 2],
        [1, 2],
    ]
    assert [row[keep].tolist() for row, keep in zip(token_ids, mask, strict=True)] == expected
    assert mask.shape == (4, 6)
    assert mask.sum(-1).tolist() == [len(text) for text in expected]


@pytest.mark.usefixtures("float64")
def test_maps_by_hand(batch_of):
    """Text vectors chosen by number of tokens; cells are the unit axes and their diagonal."""
    batch = batch_of([(2, 3)])
    fmap = torch.tensor([[[[1.0, 0.0, 2.0]], [[0.0, 3.0, 2.0]]]])  # (1, 2, 1, 3)
    vectors = {4: [1.0, 0.0], 5: [0.0, 2.0]}
    maps, real = sentence_maps(
        batch,
        fmap,
        torch.nn.Identity(),
        lambda ids, mask: torch.tensor([vectors[int(n)] for n in mask.sum(-1)]),
    )
    half = 0.5**0.5
    torch.testing.assert_close(maps, torch.tensor([[[[1.0, 0.0, half]], [[0.0, 1.0, half]]]]))
    assert real.all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["convirt", "clip"])
def test_a_phrase_is_mapped_by_its_embedding_wherever_it_stands(method, batch_of, name):
    model = method(name).eval()
    report = batch_of([(4, 3), (2, 5)], pad=3)
    maps, real = model.attention_maps(report)
    assert maps.shape == (2, 2, 2, 2) and real.all()
    phrase = batch_of([(3,), (5,)])
    phrase.images = report.images
    phrase.token_ids[0, 1:4] = report.token_ids[0, 5:8]
    phrase.token_ids[1, 1:6] = report.token_ids[1, 3:8]
    alone, _ = model.attention_maps(phrase)
    torch.testing.assert_close(alone[:, 0], maps[:, 1])
    # a cell is what the image would be if all of its layer4 map were that cell
    fmap = torch.nn.functional.relu(torch.randn(2, 512, 1, 1)).expand(-1, -1, 2, 2)
    constant, _ = sentence_maps(phrase, fmap, model.image_head, model.encode_text)
    u = torch.nn.functional.normalize(model.image_head(fmap[..., 0, 0]), dim=-1)
    _, v = model.embed(phrase)
    torch.testing.assert_close(constant[:, 0, 0, 0], (u * v).sum(-1))


def test_padded_sentences_have_empty_maps(method, batch_of):
    maps, real = method("clip").eval().attention_maps(batch_of([(4, 3), (2,)]))
    assert real.tolist() == [[True, True], [True, False]]
    assert (maps[1, 1] == 0).all() and (maps[1, 0] != 0).all()
