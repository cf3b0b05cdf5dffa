"""Read the training sets and turn them into pools of queries and documents.

A pool is one kind of text at one length. Every query in it has one document that it came from; a
labelled pool's queries were written by people who had read that document, an unlabelled pool's
queries are titles or sentences cut out of it.
"""

from __future__ import annotations

import inspect
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")


@dataclass(frozen=True)
class Pool:
    """Queries and the documents they are scored against.

    Attributes:
        name: The name shown in the log.
        phase: 1 short documents, 2 paragraphs and abstracts, 3 several paragraphs.
        labelled: Whether a person wrote the queries for their documents.
        queries: The queries.
        positives: For each query the index of its document.
        documents: The documents.
        parts: For each document the texts the teacher sees, which reads 256 tokens at most; a
            document's similarity is that of its best part.
        precise: Whether the larger, slower teacher reads this pool too.
    """

    name: str
    phase: int
    labelled: bool
    queries: list[str]
    positives: list[int]
    documents: list[str]
    parts: list[list[str]]
    precise: bool = False


def sentences(text: str) -> list[str]:
    """Split a paragraph into sentences at a full stop before a capital or a digit."""
    return [s.strip() for s in SENTENCE_END.split(text) if s.strip()]


def typed(question: str) -> str:
    """Write a question as people type it into a search box: no capitals, no question mark."""
    return question.lower().rstrip("? ")


def json_lines(path: Path) -> list[dict]:
    """Read a file that holds one JSON object a line."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def make_pool(
    name: str, phase: int, labelled: bool, pairs: list[tuple[str, str]], precise: bool = False
) -> Pool:
    """Build a pool from (query, document) pairs whose documents may repeat."""
    index: dict[str, int] = {}
    positives = [index.setdefault(document, len(index)) for _, document in pairs]
    documents = list(index)
    queries, parts = [query for query, _ in pairs], [[d] for d in documents]
    return Pool(name, phase, labelled, queries, positives, documents, parts, precise)


def squad_pools(folder: Path, rng: random.Random) -> list[Pool]:
    """Questions on Wikipedia: the answer's sentence, its paragraph, three paragraphs in a row."""
    paragraphs = {r["_id"]: r for r in json_lines(folder / "squad-dev-1.1/corpus.jsonl")}
    questions = json_lines(folder / "squad-dev-1.1/queries.jsonl")

    with_title = {i: rng.random() < 0.5 for i in paragraphs}
    text = {
        i: (f"{r['title']}. {r['text']}" if with_title[i] else r["text"])
        for i, r in paragraphs.items()
    }
    asked = [typed(q["text"]) if rng.random() < 0.5 else q["text"] for q in questions]
    whole = make_pool(
        "squad-paragraphs",
        2,
        True,
        [(query, text[q["para"]]) for query, q in zip(asked, questions, strict=True)],
        True,
    )

    answers = []
    for question in questions:
        for sentence in sentences(paragraphs[question["para"]]["text"]):
            if any(answer in sentence for answer in question["answers"]):
                answers.append((question["text"], sentence))
                break
    short = make_pool("squad-answers", 1, True, answers)

    # Three consecutive paragraphs of one article, the wanted one at a random place among them.
    ids = list(paragraphs)
    place = {i: n for n, i in enumerate(ids)}
    index: dict[tuple[str, ...], int] = {}
    long_queries, long_positives = [], []
    for query, question in zip(asked, questions, strict=True):
        first = place[question["para"]] - rng.randrange(3)
        window = tuple(
            i
            for i in ids[max(0, first) : first + 3]
            if paragraphs[i]["title"] == paragraphs[question["para"]]["title"]
        )
        long_queries.append(query)
        long_positives.append(index.setdefault(window, len(index)))
    long = Pool(
        "squad-long",
        3,
        True,
        long_queries,
        long_positives,
        [" ".join(paragraphs[i]["text"] for i in window) for window in index],
        [[text[i] for i in window] for window in index],
        True,
    )

    pairs = json_lines(folder / "squad-sentences/pairs.jsonl")
    sentence = make_pool("squad-sentences", 1, True, [(p["query"], p["sentence"]) for p in pairs])
    return [short, sentence, whole, long]


def pubmedqa_pools(folder: Path, rng: random.Random) -> list[Pool]:
    """Questions, and sentences taken out, on medical abstracts."""
    abstracts = {r["_id"]: r["text"] for r in json_lines(folder / "pubmedqa/corpus.jsonl")}
    questions = json_lines(folder / "pubmedqa/queries.jsonl")
    pairs = [(q["text"], abstracts[q["_id"]]) for q in questions]
    asked = make_pool("pubmedqa", 2, True, pairs, precise=True)
    cut, short = [], []
    for text in abstracts.values():
        cut += cut_out(text, rng, times=3)
        found = sentences(text)
        short += [(found[i], found[i + 1]) for i in range(0, len(found) - 1, 2)]
    return [
        asked,
        make_pool("pubmedqa-cut", 2, False, cut),
        make_pool("pubmedqa-sentences", 1, False, short),
    ]


def cut_out(text: str, rng: random.Random, times: int = 1) -> list[tuple[str, str]]:
    """Take a sentence out of a text: the sentence is the query, the rest its document."""
    found = sentences(text)
    if len(found) < 3:
        return []
    pairs = []
    for i in rng.sample(range(len(found)), min(times, len(found))):
        pairs.append((found[i], " ".join(found[:i] + found[i + 1 :])))
    return pairs


def wikipedia_pools(path: Path, rng: random.Random) -> list[Pool]:
    """Titles, descriptions and sentences on the introductions of Wikipedia's vital articles.

    Args:
        path: A JSON object of title to {"title", "extract", "description"}.
    """
    articles = [a for a in json.loads(path.read_text("utf-8")).values() if a.get("extract")]
    longer = set(rng.sample(range(len(articles)), min(4000, len(articles))))
    forms = ["{t}", "what is {t}", "{t} {d}", "{d}", "tell me about {t}"]
    short, medium, cut = [], [], []
    for number, article in enumerate(articles):
        names = {"t": article["title"], "d": article.get("description") or article["title"]}
        found = sentences(article["extract"])
        short.append((rng.choice(forms).format(**names), " ".join(found[:2])))
        if number in longer and len(found) > 2:
            medium.append((rng.choice(forms).format(**names), article["extract"]))
            cut += cut_out(article["extract"], rng)
    return [
        make_pool("wikipedia-short", 1, False, short),
        make_pool("wikipedia", 2, False, medium),
        make_pool("wikipedia-cut", 2, False, cut),
    ]


def docstring_pool(most: int = 4000) -> Pool:
    """First lines and bodies of the docstrings of SciPy and scikit-learn, as technical text."""
    import scipy.linalg
    import scipy.optimize
    import scipy.signal
    import scipy.stats
    from sklearn.utils.discovery import all_estimators, all_functions

    things = [thing for _, thing in all_estimators() + all_functions()]
    for module in (scipy.linalg, scipy.optimize, scipy.signal, scipy.stats):
        things += [getattr(module, name) for name in sorted(dir(module)) if name[0] != "_"]
    pairs = {}
    for thing in things:
        doc = inspect.getdoc(thing) if callable(thing) else None
        doc = re.sub(r" at 0x[0-9a-f]+", "", doc or "")  # else no two runs see the same text
        first, _, body = doc.partition("\n\n")
        body = re.sub(r"\s+", " ", body)[:1500]
        if len(first) > 15 and len(body) > 120:
            pairs[re.sub(r"\s+", " ", first)] = body
    return make_pool("docstrings", 2, False, list(pairs.items())[:most])


def load_pools(data: Path, wikipedia: Path | None, seed: int) -> list[Pool]:
    """Read every training set that is there.

    Args:
        data: The folder with squad-dev-1.1, squad-sentences and pubmedqa.
        wikipedia: The JSON file of Wikipedia introductions, or None to go without.
        seed: What the random choices start from.

    Raises:
        FileNotFoundError: A set is missing below `data`.
    """
    rng = random.Random(seed)
    pools = squad_pools(data, rng) + pubmedqa_pools(data, rng) + [docstring_pool()]
    if wikipedia is not None:
        pools += wikipedia_pools(wikipedia, rng)
    return pools
