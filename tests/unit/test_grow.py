"""A cross-encoder that begins as its bi-encoder: parts of `training/grow.py` on a tiny BERT."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file  # noqa: E402

from encoder_vectors import Apart, EncoderVectors, Layers, segment_means  # noqa: E402
from export_weights import export  # noqa: E402
from grow import add_layer, even_keys, set_comparison  # noqa: E402
from read_apart import make_room, read_apart  # noqa: E402
from train_reranker import blocks_of, score, weights_in  # noqa: E402

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
        initializer_range=0.2,  # so that tokens change each other
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
def blocks(pairs):
    return [inputs for _, inputs in blocks_of(pairs * 10, (CLS, SEP))]


@pytest.fixture(scope="module")
def target(encoder):
    shifts = torch.zeros(2, 2, WIDTH)
    shifts[:, 0, 0] = 0.5
    return EncoderVectors(encoder, shifts)


def test_no_text_sees_the_other_but_for_the_first_token_and_the_querys_separator(encoder, pairs):
    _, (ids, kinds, mask) = next(blocks_of(pairs[:4], (CLS, SEP)))
    seen = Apart(encoder).seen(kinds, mask)
    for row in range(len(ids)):
        first, last = int((mask - kinds)[row].sum()), int(mask[row].sum())
        assert seen[row, :first, :first].all() and not seen[row, :first, first:].any()
        shared = [0, first - 1, *range(first, last)]
        assert seen[row, first].nonzero().flatten().tolist() == shared
    other = ids.clone()
    other[kinds.bool()] = 5
    before, after = (Apart(encoder).every(x, kinds, mask)[-1] for x in (ids, other))
    of_queries = (mask - kinds).bool()
    assert torch.equal(before[of_queries], after[of_queries])
    assert not torch.equal(before[kinds.bool()], after[kinds.bool()])


def test_the_wanted_vectors_of_a_query_are_the_encoders_shifted(encoder, target, pairs):
    ((_, inputs),) = blocks_of(pairs[:1], (CLS, SEP))
    layers, cosine = target.alone(*inputs)
    query, _ = pairs[0]
    alone = encoder.bert(torch.tensor([[CLS, *query, SEP]])).last_hidden_state[0]
    wanted = layers[-1][0, : len(query) + 2].clone()
    wanted[:, 0] -= 0.5
    assert torch.allclose(wanted.float(), alone, atol=0.1)  # bfloat16
    assert -1 <= cosine.item() <= 1


@torch.no_grad()
def test_what_a_head_gives_up_changes_its_scores_little(encoder):
    torch.manual_seed(2)
    attention = copy.deepcopy(encoder.bert.encoder.layer[0].attention.self)
    x = torch.randn(500, WIDTH) @ torch.diag(torch.linspace(0.1, 3, WIDTH))
    of_heads = lambda y: y.view(len(x), HEADS, -1).transpose(0, 1)  # noqa: E731

    def scores():
        query, key = of_heads(attention.query(x)), of_heads(attention.key(x))
        return query @ (key - key.mean(1, keepdim=True)).transpose(1, 2)

    before = scores()
    make_room(attention, x)
    for part in (attention.query, attention.key):
        assert (of_heads(part(x))[:, :, -2:].abs() < 1e-3).all()
    assert (scores() - before).square().mean() < 0.05 * before.square().mean()


def test_a_model_reads_apart_what_lies_side_by_side(encoder, blocks):
    reader, shifts = read_apart(encoder, blocks)
    target = EncoderVectors(encoder, shifts)
    plain = EncoderVectors(encoder, torch.zeros_like(shifts))
    for inputs in blocks[:2]:
        ids, kinds, mask = inputs
        ours = target.distance(Layers(reader).every(*inputs), target.alone(*inputs)[0], *inputs[1:])
        together = Layers(encoder).every(ids, torch.zeros_like(kinds), mask)
        theirs = plain.distance(together, plain.alone(*inputs)[0], kinds, mask)
        assert ours < 0.5 * theirs


def test_no_distance_from_what_is_wanted_and_some_from_the_pair_read_at_once(
    encoder, target, pairs
):
    _, inputs = next(blocks_of(pairs, (CLS, SEP)))
    wanted, _ = target.alone(*inputs)
    assert target.distance(wanted, wanted, *inputs[1:]).item() == 0
    ids, kinds, mask = inputs
    together = Layers(encoder).every(ids, torch.zeros_like(kinds), mask)
    assert target.distance(together, wanted, kinds, mask).item() > 0.05


def test_the_logits_are_the_same_with_and_without_the_distance(encoder, target, pairs):
    plain, tokens, _ = score(encoder, pairs, (CLS, SEP), "cpu")
    logits, read, far = score(encoder, pairs, (CLS, SEP), "cpu", target)
    assert torch.allclose(plain, logits) and tokens == read and far > 0


@torch.no_grad()
def test_attention_falls_evenly_on_the_text_that_is_to_be_read():
    torch.manual_seed(3)
    own = (torch.arange(12) < 4).float().repeat(200)
    x = torch.randn(2400, WIDTH)
    x[:, 0] = 4 * own + 0.1 * torch.randn(2400)
    kinds = 1 - own.long().view(200, 12)
    weights = even_keys([(x.view(200, 12, WIDTH), kinds, torch.ones_like(kinds))], 0)
    shares = (x @ weights).view(200, 12).softmax(1)
    assert shares[:, :4].sum(1).min() > 0.95
    assert (shares[:, :4].std(1) / shares[:, :4].mean(1)).mean() < 0.2


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
    means = segment_means(x, kinds, mask)
    for part in means:
        part[:, -1] = 0
    set_comparison(layer, [(x, kinds, mask)], means)
    out = layer(x)
    out = out[0] if isinstance(out, tuple) else out
    cosines = torch.cosine_similarity(*means)
    assert np.corrcoef(out[:, 0, -1], cosines)[0, 1] > 0.9


def test_the_model_with_a_layer_more_follows_the_encoder(encoder, target, pairs, blocks):
    model = add_layer(encoder, target, (((), inputs) for inputs in blocks))
    assert model.config.num_hidden_layers == 3
    scored, *_ = score(model, pairs, (CLS, SEP), "cpu")
    assert torch.isfinite(scored).all()


def test_a_matrix_of_zeros_that_is_not_exported_is_there_for_the_next_training(encoder, tmp_path):
    whole = copy.deepcopy(encoder)
    left_out = "bert.encoder.layer.1.attention.self.query.weight"
    whole.get_parameter(left_out).data.zero_()
    whole.save_pretrained(tmp_path / "whole")
    export(tmp_path / "whole", tmp_path / "shipped")
    assert left_out not in load_file(tmp_path / "shipped" / "weights.safetensors")
    weights = weights_in(tmp_path / "shipped")
    assert torch.equal(weights[left_out], torch.zeros(WIDTH, WIDTH))
