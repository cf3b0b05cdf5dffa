"""Read the training sets and turn them into pools of queries and documents.

A pool is one kind of text at one length. Every query in it has at least one document that it
belongs to. In a labelled pool a person wrote the query for the document; in an unlabelled one the
query is a title, a list of key words or a sentence cut out of the document.

The data folder holds one folder a set, with `corpus.jsonl`, `queries.jsonl` and `qrels.tsv` (score
1: answers, 0: was judged not to answer). A set that is missing is left out.
"""

from __future__ import annotations

import csv
import inspect
import json
import math
import random
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hard_cases import CASES

# The sets whose passages are about as long as a paragraph, and how many queries each gives.
LABELLED = {
    "squad-dev-1.1": 2400,
    "pubmedqa": 1000,
    "qed-nq": 3600,
    "clapnq": 2150,
    "boolq-dev": 1800,
    "lfrqa": 4800,
    "covid-qa": 1153,
    "covid-faq": 295,
    "condaqa": 1000,
    "conditionalqa": 1500,
    "fetaqa": 2600,
    "tat-qa": 647,
    "disfl-qa": 1000,
    "tldr-pages": 1200,
    "misspelled": 2400,
}
JOINED = ("qed-nq", "clapnq", "boolq-dev", "lfrqa", "covid-qa", "conditionalqa", "pubmedqa")
SCIENCE = ("pubmedqa", "pubmedqa-cut", "covid-qa", "covid-qa-cut", "docstrings", "keywords")
CUT = {"pubmedqa": 1, "covid-qa": 1, "qed-nq": 1, "lfrqa": 1, "boolq-dev": 1, "condaqa": 1}
# Whole sets that no training text may come from: they validate.
HELD_OUT = (
    "nq-open-oracle",
    "medline",
    "realtimeqa",
    "fool-me-twice",
    "medquad",
    "sysadmin-qa",
)
FINDING = re.compile(r"^(These|Our|This|The) (results|findings|data|study) \w+ (that )?")
LONGEST = 330  # words of a joined document: about 440 tokens

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")
WORD = re.compile(r"[a-z][a-z-]{3,}")


@dataclass
class Pool:
    """Queries and the documents they are scored against.

    Attributes:
        name: The name shown in the log.
        labelled: Whether a person wrote the queries for their documents.
        queries: The queries.
        positives: For each query the indices of its documents; the first is its own.
        documents: The documents.
        negatives: For each query the documents that people judged not to answer it.
        parts: For each document the texts the teacher reads, which are short; a document's
            similarity is that of its best part.
        weight: How often the pool is drawn, relative to its size's square root.
    """

    name: str
    labelled: bool
    queries: list[str]
    positives: list[list[int]]
    documents: list[str]
    negatives: list[list[int]] = field(default_factory=list)
    parts: list[list[str]] = field(default_factory=list)
    weight: float = 1.0

    def __post_init__(self):
        self.negatives = self.negatives or [[] for _ in self.queries]
        self.parts = self.parts or [[d] for d in self.documents]


@dataclass(frozen=True)
class JudgedSet:
    """A set in BEIR's format: texts by id, and for each query its judged documents."""

    titles: dict[str, str]
    texts: dict[str, str]
    queries: dict[str, str]
    judged: dict[str, dict[str, int]]

    def document(self, key: str, titled: bool = True) -> str:
        """A document's text, after its title if it has one and `titled` is set."""
        title = self.titles[key] if titled else ""
        return f"{title}. {self.texts[key]}" if title else self.texts[key]


def json_lines(path: Path) -> list[dict]:
    """Read a file that holds one JSON object a line."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def plain(text: str) -> str:
    """The words of a text in lower case, to compare two texts by."""
    return " ".join(re.findall(r"\w+", text.lower()))


def read_set(folder: Path, unwanted: set[str] = frozenset()) -> JudgedSet:
    """Read a set, without the queries whose plain text is unwanted."""
    corpus = json_lines(folder / "corpus.jsonl")
    judged: dict[str, dict[str, int]] = {}
    with (folder / "qrels.tsv").open(encoding="utf-8") as handle:
        for row in csv.DictReader(handle, delimiter="\t"):
            judged.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    queries = {
        q["_id"]: q["text"]
        for q in json_lines(folder / "queries.jsonl")
        if q["_id"] in judged and not {plain(q["text"]), plain(q.get("original", ""))} & unwanted
    }
    return JudgedSet(
        {r["_id"]: r.get("title") or "" for r in corpus},
        {r["_id"]: r["text"] for r in corpus},
        queries,
        judged,
    )


def held_out_queries(data: Path) -> set[str]:
    """The plain texts of all validation queries, so that none of them is trained on."""
    return {
        plain(query["text"])
        for name in HELD_OUT
        if (data / name).is_dir()
        for query in json_lines(data / name / "queries.jsonl")
    }


def sentences(text: str) -> list[str]:
    """Split a paragraph into sentences at a full stop before a capital or a digit."""
    return [s.strip() for s in SENTENCE_END.split(text) if s.strip()]


def typed(question: str, rng: random.Random) -> str:
    """Write 40% of the questions as people type them: no capitals, no question mark."""
    return question.lower().rstrip("?. ") if rng.random() < 0.4 else question


def labelled_pool(name: str, judged: JudgedSet, most: int, rng: random.Random) -> Pool:
    """Questions and the passages that people say answer them; half of the titles left out."""
    chosen = sorted(q for q in judged.queries if any(judged.judged[q].values()))
    chosen = rng.sample(chosen, min(most, len(chosen)))
    index: dict[str, int] = {}
    documents: list[str] = []

    def place(key: str) -> int:
        if key not in index:
            index[key] = len(documents)
            documents.append(judged.document(key, titled=rng.random() < 0.6))
        return index[key]

    positives, negatives = [], []
    for query in chosen:
        by_score = sorted(judged.judged[query].items())
        positives.append([place(d) for d, score in by_score if score > 0])
        negatives.append([place(d) for d, score in by_score if score == 0])
    queries = [typed(judged.queries[q], rng) for q in chosen]
    return Pool(name, True, queries, positives, documents, negatives)


def pair_pool(name: str, labelled: bool, pairs: list[tuple[str, str]], weight: float = 1) -> Pool:
    """A pool from (query, document) pairs whose documents may repeat."""
    index: dict[str, int] = {}
    positives = [[index.setdefault(document, len(index))] for _, document in pairs]
    return Pool(name, labelled, [q for q, _ in pairs], positives, list(index), weight=weight)


def joined_pool(name: str, judged: JudgedSet, most: int, rng: random.Random) -> Pool:
    """Long documents: the wanted passage among two to four others of its set, in any order."""
    keys = sorted(judged.texts)
    chosen = sorted(q for q in judged.queries if any(judged.judged[q].values()))
    chosen = rng.sample(chosen, min(most, len(chosen)))
    queries, parts = [], []
    for query in chosen:
        wanted = min(d for d, score in judged.judged[query].items() if score > 0)
        members = [wanted]
        words = len(judged.texts[wanted].split())
        for key in rng.sample(keys, 8):
            size = len(judged.texts[key].split())
            if key not in judged.judged[query] and words + size <= LONGEST and len(members) < 5:
                members.append(key)
                words += size
        rng.shuffle(members)
        queries.append(typed(judged.queries[query], rng))
        parts.append([judged.document(key, titled=rng.random() < 0.3) for key in members])
    return Pool(
        f"{name}-long",
        True,
        queries,
        [[i] for i in range(len(queries))],
        [" ".join(p) for p in parts],
        parts=parts,
        weight=1.4,
    )


def article_pool(judged: JudgedSet, most: int, rng: random.Random) -> Pool:
    """Long documents on one subject: three paragraphs in a row of one of SQuAD's articles."""
    ids = list(judged.texts)
    place = {key: n for n, key in enumerate(ids)}
    chosen = rng.sample(sorted(judged.queries), min(most, len(judged.queries)))
    index: dict[tuple[str, ...], int] = {}
    queries, positives = [], []
    for query in chosen:
        wanted = next(iter(judged.judged[query]))
        first = max(0, place[wanted] - rng.randrange(3))
        window = tuple(
            key for key in ids[first : first + 3] if judged.titles[key] == judged.titles[wanted]
        )
        queries.append(typed(judged.queries[query], rng))
        positives.append([index.setdefault(window, len(index))])
    parts = [[judged.texts[key] for key in window] for window in index]
    return Pool(
        "squad-articles", True, queries, positives, [" ".join(p) for p in parts], parts=parts
    )


def answer_pool(name: str, folder: Path, judged: JudgedSet, most: int, rng: random.Random) -> Pool:
    """Questions and the one sentence of their passage that holds the answer: single statements."""
    pairs = []
    for question in json_lines(folder / "queries.jsonl"):
        if question["_id"] not in judged.queries:
            continue
        wanted = min(d for d, score in judged.judged[question["_id"]].items() if score > 0)
        for sentence in sentences(judged.texts[wanted]):
            if 4 <= len(sentence.split()) <= 60 and any(
                answer in sentence for answer in question["answers"] if len(answer) > 2
            ):
                pairs.append((typed(question["text"], rng), sentence))
                break
    return pair_pool(f"{name}-answers", True, rng.sample(pairs, min(most, len(pairs))))


def cut_pool(name: str, judged: JudgedSet, times: int, rng: random.Random) -> Pool:
    """A sentence taken out of a text as the query, the rest of the text its document.

    Of a medical abstract the last sentence comes first, since it states the findings as a claim.
    """
    pairs = []
    for key in rng.sample(sorted(judged.texts), min(900, len(judged.texts))):
        found = sentences(judged.texts[key])
        if len(found) < 3:
            continue
        order = rng.sample(range(len(found)), len(found))
        if name == "pubmedqa":
            order = [len(found) - 1, *order]
        for i in order[:times]:
            if 5 <= len(found[i].split()) <= 45:
                claim = re.sub(
                    r"^(These|Our|This|The) (results|findings|data|study) \w+ (that )?",
                    "",
                    found[i],
                )
                pairs.append((claim, " ".join(found[:i] + found[i + 1 :])))
    return pair_pool(f"{name}-cut", False, pairs)


def title_pool(sets: dict[str, JudgedSet], rng: random.Random) -> Pool:
    """Titles, and titles asked about, with the text below them."""
    forms = ("{}", "{}", "what is {}", "tell me about {}", "who or what is {}")
    pairs = []
    for name in ("qed-nq", "boolq-dev", "covid-qa", "conditionalqa"):
        for key in rng.sample(sorted(sets[name].texts), 500) if name in sets else ():
            if title := sets[name].titles[key]:
                pairs.append((rng.choice(forms).format(title), sets[name].texts[key]))
    return pair_pool("titles", False, pairs)


def keyword_pool(sets: dict[str, JudgedSet], rng: random.Random) -> Pool:
    """Two to five rare words of a text, as typed into a search box, with the text."""
    texts = [
        text
        for name in ("qed-nq", "lfrqa", "pubmedqa", "covid-qa", "boolq-dev", "clapnq")
        for text in (rng.sample(sorted(sets[name].texts.values()), 350) if name in sets else ())
    ]
    spread = Counter(word for text in texts for word in set(WORD.findall(text.lower())))
    pairs = []
    for text in texts:
        counts = Counter(WORD.findall(text.lower()))
        rare = sorted(
            (w for w in counts if spread[w] < 40), key=lambda w: (-counts[w], spread[w], w)
        )
        if len(rare) >= 6:
            pairs.append((" ".join(rng.sample(rare[:8], rng.randint(2, 5))), text))
    return pair_pool("keywords", False, pairs)


def docstring_pool(most: int, rng: random.Random) -> Pool:
    """First lines and bodies of docstrings of SciPy and scikit-learn, as technical text."""
    import scipy.interpolate
    import scipy.linalg
    import scipy.ndimage
    import scipy.optimize
    import scipy.signal
    import scipy.stats
    from sklearn.utils.discovery import all_estimators, all_functions

    things = [thing for _, thing in all_estimators() + all_functions()]
    for module in (
        scipy.interpolate,
        scipy.linalg,
        scipy.ndimage,
        scipy.optimize,
        scipy.signal,
        scipy.stats,
    ):
        things += [getattr(module, name) for name in sorted(dir(module)) if name[0] != "_"]
    pairs = {}
    for thing in things:
        doc = inspect.getdoc(thing) if callable(thing) else None
        doc = re.sub(r" at 0x[0-9a-f]+", "", doc or "")  # else no two runs see the same text
        first, _, body = doc.partition("\n\n")
        body = re.sub(r"[-=]{3,}|\s+", " ", body)[:1200]
        if len(first) > 15 and len(body) > 120:
            pairs[re.sub(r"\s+", " ", first)] = body
    return pair_pool("docstrings", False, rng.sample(list(pairs.items()), min(most, len(pairs))))


def hard_pool() -> Pool:
    """Our own near misses: the answer and what only resembles one."""
    index: dict[str, int] = {}

    def place(text: str) -> int:
        return index.setdefault(text, len(index))

    positives = [[place(answer)] for _, answer, _ in CASES]
    negatives = [[place(miss) for miss in misses] for _, _, misses in CASES]
    queries = [query for query, _, _ in CASES]
    return Pool("hard-cases", True, queries, positives, list(index), negatives, weight=1.5)


def sample_pool(pool: Pool, share: float, rng: random.Random) -> Pool:
    """Return a pool with a share of its queries, their documents and the same share of the rest."""
    if share >= 1:
        return pool
    queries = sorted(rng.sample(range(len(pool.queries)), math.ceil(share * len(pool.queries))))
    kept = {d for q in queries for d in (*pool.positives[q], *pool.negatives[q])}
    others = [d for d in range(len(pool.documents)) if d not in kept]
    kept.update(rng.sample(others, math.ceil(share * len(others))))
    documents = sorted(kept)
    place = {old: new for new, old in enumerate(documents)}
    return Pool(
        pool.name,
        pool.labelled,
        [pool.queries[q] for q in queries],
        [[place[d] for d in pool.positives[q]] for q in queries],
        [pool.documents[d] for d in documents],
        [[place[d] for d in pool.negatives[q]] for q in queries],
        [pool.parts[d] for d in documents],
        pool.weight,
    )


def load_pools(data: Path, seed: int) -> list[Pool]:
    """Read every training set that is there.

    Args:
        data: The folder with one folder a set.
        seed: What the random choices start from.
    """
    rng = random.Random(seed)
    unwanted = held_out_queries(data)
    sets = {n: read_set(data / n, unwanted) for n in LABELLED if (data / n).is_dir()}
    pools = [labelled_pool(n, judged, LABELLED[n], rng) for n, judged in sets.items()]
    pools += [joined_pool(n, sets[n], 600, rng) for n in JOINED if n in sets]
    pools += [cut_pool(n, sets[n], times, rng) for n, times in CUT.items() if n in sets]
    if "squad-dev-1.1" in sets:
        squad = sets["squad-dev-1.1"]
        pools.append(article_pool(squad, 1200, rng))
        pools.append(answer_pool("squad", data / "squad-dev-1.1", squad, 6000, rng))
    if "qed-nq" in sets:
        pools.append(answer_pool("qed-nq", data / "qed-nq", sets["qed-nq"], 5000, rng))
    if (file := data / "squad-sentences" / "pairs.jsonl").is_file():
        pairs = [(p["query"], p["sentence"]) for p in json_lines(file)]
        pools.append(pair_pool("squad-sentences", True, rng.sample(pairs, 3000), weight=0.4))
    pools += [title_pool(sets, rng), keyword_pool(sets, rng), docstring_pool(900, rng)]
    for pool in pools:
        if pool.name in SCIENCE:
            pool.weight *= 1.5
    return [*pools, hard_pool()]
