"""The corpus: what its data promises in DATA_CARD.md, and what the loaders do with it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from importlib import resources

import bm25s
import ir_measures
import pandas as pd
import pytest
import Stemmer
from bm25s.stopwords import STOPWORDS_EN_PLUS

import helpers
from helpers import corpus
from helpers.errors import InputError
from helpers.search import load_judged
from unjudged import first_stages, packaged_encoder, unjudged

GEOGRAPHY = "geography"  # the only subject of single statements; the others have paragraphs
QUERY_KINDS = {"keyword", "question", "paraphrase", "negation", "misspelling"}
STEMMER = Stemmer.Stemmer("english")
NEARLY_THE_SAME = 0.4  # of the content words of two texts together, the share that both have


def words(text):
    return len(text.split())


def stems(text):
    """Return the stems of a text's content words."""
    found = re.findall(r"[a-z0-9]+", text.lower())
    return {STEMMER.stemWord(word) for word in found if word not in STOPWORDS_EN_PLUS}


def likeness(one, other):
    """Return how much two sets of stems have in common, 0 to 1 (Jaccard)."""
    return len(one & other) / len(one | other)


def paragraphs():
    table = corpus.passages()
    return table[table.subject != GEOGRAPHY]


def judged_texts():
    """Return the judgments with the texts of both sides beside them."""
    queries = corpus.queries().rename(columns={"text": "query"})
    passages = corpus.passages().rename(columns={"text": "passage"})
    return (
        corpus.judgments()
        .merge(queries[["query_id", "kind", "query"]], on="query_id")
        .merge(passages[["passage_id", "passage", "true"]], on="passage_id")
    )


def grades_of(passage_id):
    """Return {query_id: grade} of one passage, without the zeros."""
    judged = corpus.judgments()
    rows = judged[(judged.passage_id == passage_id) & (judged.grade > 0)]
    return dict(zip(rows.query_id, rows.grade, strict=True))


def bm25_ndcg():
    """Return a frame with BM25's nDCG@10 for each query and the query's kind."""
    passages, queries, judged = corpus.passages(), corpus.queries(), corpus.judgments()
    options = {"stopwords": "en", "stemmer": STEMMER, "show_progress": False}
    index = bm25s.BM25()
    index.index(bm25s.tokenize(passages.text.tolist(), **options), show_progress=False)
    rows, scores = index.retrieve(
        bm25s.tokenize(queries.text.tolist(), **options), k=10, show_progress=False
    )
    run = {
        query_id: {
            passages.passage_id[row]: float(score)
            for row, score in zip(rows[place], scores[place], strict=True)
            if score > 0
        }
        for place, query_id in enumerate(queries.query_id)
    }
    qrels = defaultdict(dict)
    for row in judged.itertuples():
        qrels[row.query_id][row.passage_id] = int(row.grade)
    ndcg = [
        {"query_id": metric.query_id, "ndcg": metric.value}
        for metric in ir_measures.iter_calc([ir_measures.nDCG @ 10], qrels, run)
    ]
    return pd.DataFrame(ndcg).merge(queries, on="query_id")


def test_the_documents_and_queries_of_the_first_tutorial_are_here():
    assert corpus.passages(subject=GEOGRAPHY).text[:2].tolist() == [
        "The capital of Brazil is Brasilia.",
        "The capital of France is Paris.",
    ]
    assert corpus.queries(subject=GEOGRAPHY).text[:2].tolist() == [
        "What is the capital of Brazil?",
        "What is the capital of France?",
    ]


def test_there_is_enough_of_everything():
    assert len(corpus.subjects()) >= 7
    assert len(corpus.passages(subject=GEOGRAPHY)) >= 60
    assert (paragraphs().text.map(words) >= 30).sum() >= 420
    assert (paragraphs().groupby("subject").size() >= 40).all()
    assert len(corpus.queries()) >= 90
    assert set(corpus.kinds()) == QUERY_KINDS
    assert corpus.queries().groupby("subject").kind.nunique().eq(len(QUERY_KINDS)).all()
    assert (corpus.queries().groupby("kind").size() >= 15).all()


@pytest.mark.parametrize(
    ("table", "column"),
    [
        (corpus.passages, "passage_id"),
        (corpus.queries, "query_id"),
        (corpus.long_documents, "document_id"),
    ],
)
def test_ids_and_texts_are_unique_and_no_cell_is_empty(table, column):
    frame = table()
    assert frame[column].is_unique
    assert not frame.text.str.strip().str.lower().duplicated().any()
    assert (frame.text == frame.text.str.strip()).all()
    filled = frame.drop(columns="near_duplicate_of", errors="ignore").astype(str)
    assert (filled != "").all().all()


def test_every_judgment_names_a_query_and_a_passage_that_exist():
    judged = corpus.judgments()
    assert set(judged.query_id) == set(corpus.queries().query_id)
    assert set(judged.passage_id) <= set(corpus.passages().passage_id)
    assert not judged.duplicated(["query_id", "passage_id"]).any()


def test_grades_run_from_0_to_3_and_every_query_has_a_3_a_0_and_four_judgments():
    judged = corpus.judgments()
    assert set(judged.grade) == {0, 1, 2, 3}
    by_query = judged.groupby("query_id").grade
    assert (by_query.max() == 3).all()
    assert (by_query.min() == 0).all()
    assert (by_query.size() >= 4).all()


def test_whatever_reranks_the_first_twenty_of_a_search_99_of_100_are_judged():
    data = load_judged()
    runs = first_stages(data, packaged_encoder())
    for depth in (10, 20):
        missing = unjudged(data, runs, depth)
        assert {name for name, pairs in missing.items() if len(pairs) > 0.01 * depth * 189} == set()


def test_a_pair_without_a_grade_is_listed_under_the_search_that_found_it():
    data = load_judged()
    query_id = next(iter(data.queries))
    judged, other = next(iter(data.judgments[query_id])), "nobody-judged-this"
    runs = {"one": {query_id: [judged, other]}, "two": {query_id: [judged]}}
    assert unjudged(data, runs, depth=2) == {"one": [(query_id, other)], "two": []}
    assert unjudged(data, runs, depth=1) == {"one": [], "two": []}


def test_a_false_passage_is_never_graded_as_an_answer():
    judged = judged_texts()
    assert judged[~judged.true].grade.max() == 2


def test_only_harmless_subjects_have_false_passages():
    false = corpus.passages().query("not true")
    assert len(false) >= 20
    assert {"health", "law_and_money"}.isdisjoint(false.subject)


def test_paraphrases_share_no_content_word_with_what_answers_them():
    judged = judged_texts()
    answers = judged[(judged.kind == "paraphrase") & (judged.grade >= 2)]
    assert answers.query_id.nunique() == len(corpus.queries(kind="paraphrase"))
    shared = {
        (row.query_id, row.passage_id): stems(row.query) & stems(row.passage)
        for row in answers.itertuples()
    }
    assert {pair: common for pair, common in shared.items() if common} == {}


def test_paragraphs_have_30_to_120_words():
    lengths = paragraphs().text.map(words)
    assert lengths.min() >= 30
    assert lengths.max() <= 120


def test_near_duplicates_are_marked_and_graded_like_their_originals():
    table = corpus.passages()
    content = dict(zip(table.passage_id, table.text.map(stems), strict=True))
    marked = table[table.near_duplicate_of != ""]
    assert len(marked) >= 10
    for row in marked.itertuples():
        assert likeness(content[row.passage_id], content[row.near_duplicate_of]) > NEARLY_THE_SAME
        assert grades_of(row.passage_id) == grades_of(row.near_duplicate_of)


def test_no_other_paragraphs_are_nearly_the_same():
    table = paragraphs()
    marked = set(zip(table.passage_id, table.near_duplicate_of, strict=True))
    content = list(zip(table.passage_id, table.text.map(stems), strict=True))
    alike = [
        (late, early)
        for place, (late, one) in enumerate(content)
        for early, other in content[:place]
        if likeness(one, other) > NEARLY_THE_SAME and (late, early) not in marked
    ]
    assert alike == []


def test_bm25_does_well_on_shared_words_and_leaves_room_elsewhere():
    ndcg = bm25_ndcg()
    assert 0.5 <= ndcg.ndcg.mean() <= 0.75
    by_kind = ndcg.groupby("kind").ndcg.mean()
    assert by_kind["paraphrase"] <= 0.4
    assert by_kind["keyword"] >= 0.7


def test_long_documents_answer_near_the_end_and_once():
    table = corpus.long_documents()
    assert len(table) >= 12
    assert table.text.map(words).between(400, 700).all()
    assert set(table.subject) <= set(corpus.subjects())
    for row in table.itertuples():
        assert row.text.count(row.answer) == 1
        assert words(row.text[: row.text.index(row.answer)]) >= 0.9 * words(row.text)


def test_the_loaders_filter_by_subject_and_kind():
    rivers = corpus.passages(subject=GEOGRAPHY, kind="river")
    assert set(rivers.kind) == {"river"}
    assert rivers.index.tolist() == list(range(len(rivers)))
    recipes = corpus.passages(kind="recipe")
    assert set(recipes.subject) == {"cooking"}
    negations = corpus.queries(kind="negation")
    assert set(corpus.judgments(kind="negation").query_id) == set(negations.query_id)
    cooking = corpus.queries(subject="cooking")
    assert set(corpus.judgments(subject="cooking").query_id) == set(cooking.query_id)


@pytest.mark.parametrize("table", [corpus.passages, corpus.queries, corpus.judgments])
def test_the_subjects_together_give_the_whole_table(table):
    parts = [table(subject=subject) for subject in corpus.subjects()]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), table())


@pytest.mark.parametrize("table", [corpus.passages, corpus.queries, corpus.judgments])
def test_an_unknown_subject_or_kind_is_an_error_that_names_the_valid_ones(table):
    with pytest.raises(InputError, match=r"no subject 'astrology' here.*'geography', 'cooking'"):
        table(subject="astrology")
    with pytest.raises(ValueError, match="no kind 'riddle' here"):
        table(kind="riddle")


@pytest.mark.parametrize(
    "table", [corpus.passages, corpus.queries, corpus.judgments, corpus.long_documents]
)
def test_a_changed_frame_does_not_change_the_next_one(table):
    before = table()
    spoiled = table()
    spoiled.iloc[0, 0] = "spoiled"
    spoiled["extra"] = 1
    pd.testing.assert_frame_equal(table(), before)


def test_the_data_card_states_the_counts():
    card = resources.files(corpus).joinpath("DATA_CARD.md").read_text(encoding="utf-8")
    passages, queries, judged = corpus.passages(), corpus.queries(), corpus.judgments()
    for subject, count in passages.groupby("subject").size().items():
        asked = (queries.subject == subject).sum()
        assert f"| {subject} | {count} | {asked} |" in card
    for grade, count in judged.groupby("grade").size().items():
        assert re.search(rf"^\| {grade} \|.*\| {count} \|$", card, re.MULTILINE)
    for kind, score in bm25_ndcg().groupby("kind").ndcg.mean().items():
        asked = (queries.kind == kind).sum()
        assert re.search(rf"^\| {kind} \|.*\| {asked} \| {score:.2f} \|$", card, re.MULTILINE)


def test_every_public_name_is_there_after_a_plain_import():
    code = "import helpers; print(sum(hasattr(helpers, name) for name in helpers.__all__))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(helpers.__all__)
