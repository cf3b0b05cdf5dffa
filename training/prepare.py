"""Embed the pools with the teacher and write down each query's candidates for training groups.

    python training/prepare.py --data DATA
    python training/prepare.py --data DATA --second-teacher FOLDER_OR_NAME
    python training/prepare.py --data DATA --share 0.25    # a quarter, for a short run

The teacher is a bi-encoder. A query's candidates are its own documents, those that people judged
not to answer it, the nearest by the encoder's cosine, the best by BM25, and some at random. For
each candidate a pool's file in `WORK/groups` holds the cosine of every teacher and the BM25 score
as a share of the query's best. The first teacher alone chooses the candidates, so a second one can
be added later, for the same groups. Pools that are done are kept, and so are embeddings: to read
changed sets, remove `WORK/groups`.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
from pathlib import Path

import bm25s
import numpy as np
import Stemmer
import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from forward import Forward, mean_vectors, number_type
from groups import WORK_DIR, Groups, read_groups, write_groups
from helpers.server import base_encoder_path
from pools import Pool, load_pools, sample_pool

NEAREST, LEXICAL, RANDOM = 20, 14, 8
TEACHER_TOKENS = 224  # of a text the teacher reads at most so many


class Teacher:
    """A bi-encoder whose embeddings are kept on disk."""

    def __init__(self, name: str, cache: Path):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = SentenceTransformer(name, device=self.device).to(number_type(self.device))
        self.model.max_seq_length = TEACHER_TOKENS
        self.name, self.cache = Path(name).name, cache
        self.known: dict[str, np.ndarray] = {}

    def embed(self, texts: list[str]) -> np.ndarray:
        """Return unit vectors: (texts, dimensions), float16."""
        missing = sorted({t for t in texts if t not in self.known})
        key = hashlib.sha256("\0".join([self.name, *missing]).encode()).hexdigest()
        file = self.cache / f"{key[:24]}.npy"
        if missing and not file.exists():
            np.save(file, F.normalize(self.vectors(missing)).cpu().numpy().astype(np.float16))
        if missing:
            self.known.update(zip(missing, np.load(file), strict=True))
        return np.stack([self.known[t] for t in texts])

    def vectors(self, texts: list[str]) -> torch.Tensor:
        """Vectors of the texts, in float32."""
        return self.model.encode(texts, convert_to_tensor=True, batch_size=32).float()


class BertTeacher(Teacher):
    """The same for a BERT encoder with mean pooling, by the training's own fast forward pass."""

    def __init__(self, name: str, cache: Path, tokenizer):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.forward = Forward(
            AutoModelForSequenceClassification.from_pretrained(name, num_labels=1).to(self.device)
        )
        self.tokenizer = tokenizer
        self.name, self.cache, self.known = Path(name).name, cache, {}

    @torch.inference_mode()
    def vectors(self, texts: list[str]) -> torch.Tensor:
        """Vectors of the texts, in float32."""
        ids = self.tokenizer(texts, truncation=True, max_length=TEACHER_TOKENS)["input_ids"]
        result, order = [], sorted(range(len(texts)), key=lambda i: -len(ids[i]))
        for start in range(0, len(order), 32):
            width = len(ids[order[start]])
            rows = [ids[i] + [0] * (width - len(ids[i])) for i in order[start : start + 32]]
            block = torch.tensor(rows, device=self.device)
            mask = (block != 0).long()
            hidden = self.forward.hidden(block, torch.zeros_like(block), mask)
            result.append(mean_vectors(hidden, mask))
        return torch.cat(result)[torch.tensor(np.argsort(order))]


def part_vectors(pool: Pool, teacher: Teacher) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of all documents' parts, and where each document's first part is."""
    sizes = [len(parts) for parts in pool.parts]
    vectors = teacher.embed([part for parts in pool.parts for part in parts])
    return vectors.astype(np.float32), np.concatenate([[0], np.cumsum(sizes)[:-1]])


def lexical_scores(pool: Pool) -> np.ndarray:
    """BM25 scores of all queries and documents, each query's best being 1."""
    stemmer = Stemmer.Stemmer("english")
    how = {"stopwords": "en", "stemmer": stemmer, "show_progress": False, "return_ids": False}
    index = bm25s.BM25()
    index.index(bm25s.tokenize(pool.documents, **how), show_progress=False)
    known = index.vocab_dict
    scores = np.zeros((len(pool.queries), len(pool.documents)), np.float32)
    for row, words in zip(scores, bm25s.tokenize(pool.queries, **how), strict=True):
        if words := [w for w in words if w in known]:
            row[:] = index.get_scores(words)
            row /= max(row.max(), 1e-6)
    return scores


def choose(pool: Pool, query: int, near, words, rng) -> tuple[list[int], tuple[int, ...]]:
    """Return a query's candidates and how many are of each kind."""
    taken: dict[int, None] = {}
    counts = []
    random_ones = rng.sample(range(len(pool.documents)), min(RANDOM, len(pool.documents)))
    wanted = [pool.positives[query], pool.negatives[query], near, words, random_ones]
    for source in wanted:
        before = len(taken)
        taken.update(dict.fromkeys(int(d) for d in source))
        counts.append(len(taken) - before)
    return list(taken), tuple(counts)


def prepare(pool: Pool, teachers: list[Teacher], tokenizer, rng: random.Random) -> Groups:
    """Embed a pool and choose its candidates."""
    scores = lexical_scores(pool)
    encoded = []
    for teacher in teachers:
        queries = teacher.embed(pool.queries).astype(np.float32)
        encoded.append((teacher.name, queries, *part_vectors(pool, teacher)))
    _, queries, parts, first = encoded[0]
    candidates, counts = [], []
    for query in range(len(pool.queries)):
        cosines = np.maximum.reduceat(parts @ queries[query], first)
        near = np.argsort(-cosines)[:NEAREST]
        words = np.argsort(-scores[query])[:LEXICAL]
        chosen, kinds = choose(pool, query, near, words, rng)
        candidates.append(np.array(chosen, np.int32))
        counts.append(kinds)
    cosines = {
        name: [
            np.maximum.reduceat(parts @ queries[query], first)[chosen].astype(np.float16)
            for query, chosen in enumerate(candidates)
        ]
        for name, queries, parts, first in encoded
    }
    lexical = [scores[q][chosen].astype(np.float16) for q, chosen in enumerate(candidates)]
    ids = [
        [np.array(row, np.int32) for row in encode(tokenizer, texts)]
        for texts in (pool.queries, pool.documents)
    ]
    return Groups(pool.name, pool.labelled, pool.weight, *ids, candidates, counts, cosines, lexical)


def encode(tokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids without the special ones, in full length."""
    return tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]


def main() -> None:
    """Prepare all pools and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the training sets")
    parser.add_argument("--base", help="folder or hub name of the encoder (default: the package)")
    parser.add_argument("--second-teacher", help="folder or hub name of a larger bi-encoder")
    parser.add_argument("--work-dir", type=Path, default=WORK_DIR, help="default: %(default)s")
    parser.add_argument("--pools", nargs="*", help="prepare only the pools of these names")
    parser.add_argument("--share", type=float, default=1.0, help="share of each pool's queries")
    parser.add_argument("--seed", type=int, default=40)
    parser.add_argument("--threads", type=int, help="threads of PyTorch (default: its own choice)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    cache = options.work_dir / "embeddings"
    cache.mkdir(parents=True, exist_ok=True)
    (options.work_dir / "groups").mkdir(exist_ok=True)
    base = options.base or str(base_encoder_path())
    tokenizer = AutoTokenizer.from_pretrained(base)
    teachers: list[Teacher] = [BertTeacher(base, cache, tokenizer)]
    if options.second_teacher:
        teachers.append(Teacher(options.second_teacher, cache))
    for pool in load_pools(options.data, options.seed):
        if options.pools and pool.name not in options.pools:
            continue
        file = options.work_dir / "groups" / f"{pool.name}.pkl"
        if file.exists() and {t.name for t in teachers} <= read_groups(file).cosines.keys():
            continue
        begun = time.monotonic()
        pool = sample_pool(pool, options.share, random.Random(options.seed))
        # Each pool has a generator of its own: the candidates don't depend on the others.
        rng = random.Random(f"{options.seed} {pool.name}")
        write_groups(prepare(pool, teachers, tokenizer, rng), file)
        print(
            f"{pool.name:20} {len(pool.queries):6} queries {len(pool.documents):6} documents"
            f"  {time.monotonic() - begun:4.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
