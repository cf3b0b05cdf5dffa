"""A cross-encoder that begins as its bi-encoder: parts of `training/grow.py` on a tiny BERT."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from encoder_vectors import EncoderVectors, Layers, side_by_side  # noqa: E402
from grow import add_layer, segment_means, set_comparison  # noqa: E402
from train_reranker import blocks_of, score  # noqa: E402

CLS, SEP = 1, 2
WIDTH, HEADS = 48, 4


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=60,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=2 * WIDTH,
        max_position_embeddings=64,
        num_labels=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BertForSequenceClassification(config).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    return [
        (rng.integers(3, 60, rng.integers(2, 6)), rng.integers(3, 60, rng.integers(3, 20)))
        for _ in range(30)
    ]


@pytest.fixture(scope="module")
def target(encoder):
    return EncoderVectors(encoder, torch.nn.functional.one_hot(torch.tensor(0), WIDTH).float())


def test_a_pair_is_taken_apart_and_the_document_gets_its_own_start(pairs):
    ((_, inputs),) = blocks_of(pairs[:1], (CLS, SEP))
    (query, _), (document, _) = side_by_side(*inputs)
    assert query.tolist() == [[CLS, *pairs[0][0], SEP]]
    assert document.tolist() == [[CLS, *pairs[0][1], SEP]]


def test_the_wanted_vectors_are_the_encoders_of_each_text_alone(encoder, target, pairs):
    ((_, inputs),) = blocks_of(pairs[:1], (CLS, SEP))
    layers, cosine = target.alone(*inputs)
    query, document = pairs[0]
    first = len(query) + 2
    means = []
    for text, place in ((query, slice(0, first)), (document, slice(first, None))):
        ids = torch.tensor([[CLS, *text, SEP]])
        vectors = encoder.bert(ids).last_hidden_state[0]
        means.append(vectors.mean(0))
        alone = vectors if place.start == 0 else vectors[1:]
        wanted = layers[-1][0, place].clone()
        if place.start:
            wanted[:, 0] -= 1.5
        assert torch.allclose(wanted.float(), alone, atol=0.1)  # bfloat16
    assert cosine.item() == pytest.approx(torch.cosine_similarity(*means, dim=0).item(), abs=0.02)


def test_no_distance_from_what_is_wanted_and_some_from_the_pair_read_at_once(
    encoder, target, pairs
):
    _, inputs = next(blocks_of(pairs, (CLS, SEP)))
    wanted, _ = target.alone(*inputs)
    assert target.distance(wanted, wanted, inputs[2]).item() == 0
    assert target.distance(Layers(encoder).every(*inputs), wanted, inputs[2]).item() > 0.05


def test_the_logits_are_the_same_with_and_without_the_distance(encoder, target, pairs):
    plain, tokens, _ = score(encoder, pairs, (CLS, SEP), "cpu")
    logits, read, far = score(encoder, pairs, (CLS, SEP), "cpu", target)
    assert torch.allclose(plain, logits) and tokens == read and far > 0


@torch.no_grad()
def test_the_layer_on_top_says_how_alike_the_means_of_two_texts_are():
    torch.manual_seed(1)
    config = transformers.BertConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, intermediate_size=4 * WIDTH
    )
    config._attn_implementation = "eager"
    layer = transformers.models.bert.modeling_bert.BertLayer(config).requires_grad_(False).eval()
    kinds = (torch.arange(12) >= 4).long().repeat(200, 1)
    mask = torch.ones_like(kinds)
    # Texts with a subject each, much the same for some pairs; the last feature tells the kind.
    subjects = torch.randn(200, 2, 16)
    subjects[:, 1] += torch.rand(200, 1) * 3 * subjects[:, 0]
    subjects = 4 * torch.nn.functional.normalize(subjects @ torch.randn(16, WIDTH), dim=-1)
    x = subjects[torch.arange(200)[:, None], kinds] + 0.3 * torch.randn(200, 12, WIDTH)
    x[:, :, -1] = 2.0 * kinds - 1
    means = torch.nn.functional.normalize(torch.cat(segment_means(x, kinds, mask)))
    means[:, -1] = 0
    signs = (2.0 * kinds - 1).flatten()
    set_comparison(layer, x.flatten(0, 1), signs, means, HEADS)
    out = layer(x)
    out = out[0] if isinstance(out, tuple) else out
    cosines = torch.cosine_similarity(*(m[:, :-1] for m in segment_means(x, kinds, mask)))
    assert np.corrcoef(out[:, 0, -1], cosines)[0, 1] > 0.9


def test_the_model_with_a_layer_more_follows_the_encoder(encoder, target, pairs):
    blocks = list(blocks_of(pairs * 10, (CLS, SEP)))
    model = add_layer(encoder, target, iter(blocks))
    assert model.config.num_hidden_layers == 3
    scored, *_ = score(model, pairs, (CLS, SEP), "cpu")
    assert torch.isfinite(scored).all()
