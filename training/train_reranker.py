"""Train the offline reranker: a cross-encoder made of the MiniLM-L6 encoder.

The encoder was trained to place a query and its document close to each other, each read alone. That
similarity, joined with BM25's, is the teacher: the cross-encoder, which reads both texts together,
learns to order documents as the teacher does, and to place above them the document that a person
wrote the query for. The teacher makes it general, the labels make it precise. All weights are
trained but the embeddings, and of these what tells a query's tokens from a document's.

    python training/prepare.py --data DATA
    python training/train_reranker.py --start-from FOLDER --minutes 100
    python training/train_reranker.py --resume --minutes 200      # go on, to 200 minutes in all
    python training/average_models.py FOLDER WORK/model MEAN      # if the mean is better
    python training/calibrate.py WORK/model --data DATA
    python training/evaluate.py --data DATA --model WORK/model
    python training/export_weights.py WORK/model src/helpers/offline_reranker

`FOLDER` is a model folder or the shipped weights; without it the run begins with the bare encoder.
`WORK` is a folder `training` in the user's cache unless `--work-dir` names another. Every few
minutes the mean of the last weights is written to `WORK/model`, a folder that Sentence-Transformers
loads, and the run's state to `WORK/state.pt`. A pause, of the process or of the machine, does not
count as time.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from encoder_vectors import EncoderVectors, Layers
from groups import GROUP, WORK_DIR, Draw
from helpers.server import base_encoder_path
from helpers.server.model import layers_in, matrices_left_out

MAX_TOKENS, MAX_QUERY = 512, 128
BLOCK_TOKENS = 3072  # tokens, with padding, that go through the model at once
LIKE_LENGTH = 0.85  # a shorter row than this share of the longest begins a new block, ...
SMALL_BLOCK = 700  # ... unless the block has fewer tokens than this
CHUNK = 8  # groups between two backward passes: few, so that what they keep stays small
LONGEST_STEP = 60.0  # seconds: a step that took longer was paused
MEAN_DECAY = 0.995  # of the running mean of the weights, a step
VECTORS_WEIGHT = 4.0  # of the distance from the encoder's vectors in the loss, at the beginning
SHIFTS_FILE = "shifts.npy"  # in the folder that grow.py wrote: what `EncoderVectors` calls so


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work-dir", type=Path, default=WORK_DIR, help="default: %(default)s")
    parser.add_argument("--base", help="folder or hub name of the encoder (default: the package)")
    parser.add_argument("--start-from", type=Path, help="folder whose weights to begin with")
    parser.add_argument("--minutes", type=float, default=100.0, help="length of the run")
    parser.add_argument("--groups", type=int, default=8, help="queries a step")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--save-minutes", type=float, default=4.0)
    parser.add_argument(
        "--vectors",
        type=float,
        default=0.0,
        help="share of the run in which the encoder's own vectors are wanted too, less and less;"
        " for what grow.py wrote (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, help="threads of PyTorch (default: its own choice)")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a model folder, or of one with shipped weights, as float32."""
    file = next(folder.glob("*.safetensors"))
    weights = {name: value.float() for name, value in load_file(file).items()}
    return weights | {
        name: torch.zeros(shape) for name, shape in matrices_left_out(weights).items()
    }


def build_model(base: str, weights: dict[str, torch.Tensor] | None = None):
    """Return the encoder with one output, with these weights in place of its own if any are given.

    Raises:
        ValueError: There are weights among them that the model lacks.
    """
    config = AutoConfig.from_pretrained(
        base, num_labels=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    if weights:
        config.num_hidden_layers = layers_in(weights)
    model = AutoModelForSequenceClassification.from_pretrained(base, config=config)
    unknown = model.load_state_dict(weights or {}, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"The model has no weights of the names {unknown[:3]}.")
    return model


def trainable(model) -> dict[str, torch.nn.Parameter]:
    """Let all weights learn but the embeddings, save what tells a query from a document.

    In the last layer only the first token's query counts. If it is the same for all pairs, because
    its matrix is 0, it stays so: a matrix of zeros is not shipped.
    """
    model.requires_grad_(True)
    model.bert.embeddings.requires_grad_(False)
    model.bert.embeddings.token_type_embeddings.requires_grad_(True)
    last = model.bert.encoder.layer[-1].attention.self.query.weight
    last.requires_grad_(bool(last.any()))
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def shifts_in(folder: Path) -> torch.Tensor:
    """Return what `EncoderVectors` calls shifts, of a folder that grow.py wrote.

    Raises:
        ValueError: Another program wrote it.
    """
    if not (folder / SHIFTS_FILE).is_file():
        raise ValueError(f"{folder} has no {SHIFTS_FILE}: give a folder that grow.py wrote.")
    return torch.from_numpy(np.load(folder / SHIFTS_FILE))


def frozen_encoder(base: str, device: str):
    """Return the encoder as it is, not to be trained: what `EncoderVectors` reads with."""
    encoder = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    return encoder.requires_grad_(False).to(device)


def blocks_of(pairs, special: tuple[int, int]):
    """Put pairs into blocks of a like length.

    Yields:
        The places of the block's rows among the pairs, and the model's inputs for them.
    """
    cls, sep = special
    rows = []
    for query, document in pairs:
        query = query[:MAX_QUERY]
        document = document[: MAX_TOKENS - len(query) - 3]
        rows.append((np.concatenate([[cls], query, [sep], document, [sep]]), len(query) + 2))
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i][0]))
    while order:
        width = len(rows[order[0]][0])
        count = 1
        for place in order[1:]:
            full = width * (count + 1) > BLOCK_TOKENS
            shorter = len(rows[place][0]) < LIKE_LENGTH * width and width * count >= SMALL_BLOCK
            if full or shorter:
                break
            count += 1
        block, order = order[:count], order[count:]
        ids, kinds, mask = np.zeros((3, len(block), width), np.int64)
        for line, place in enumerate(block):
            row, first = rows[place]
            ids[line, : len(row)] = row
            kinds[line, first : len(row)] = 1
            mask[line, : len(row)] = 1
        yield block, tuple(map(torch.from_numpy, (ids, kinds, mask)))


def score(model, pairs, special: tuple[int, int], device: str, target=None):
    """Score pairs, and see how far the vectors on the way are from the encoder's.

    Args:
        model: A BertForSequenceClassification with one output.
        pairs: Token ids of queries and documents.
        special: The ids of [CLS] and [SEP].
        device: Where the model is.
        target: The `EncoderVectors` to compare with, if any.

    Returns:
        The pairs' logits in their order, the number of tokens read, and the distance, 0 without
        a target.
    """
    forward = Layers(model)
    places, logits, tokens, distance = [], [], 0, 0.0
    for block, inputs in blocks_of(pairs, special):
        inputs = tuple(x.to(device) for x in inputs)
        vectors = forward.every(*inputs)
        if target:
            far = target.distance(vectors, target.alone(*inputs)[0], *inputs[1:])
            distance = distance + far * len(block) / len(pairs)
        places.append(block)
        logits.append(forward.logits(vectors[-1]))
        tokens += inputs[0].numel()
    back = torch.from_numpy(np.argsort(np.concatenate(places)))
    return torch.cat(logits)[back.to(device)], tokens, distance


def loss_of(logits, order, likely):
    """Divergence from the teacher's order, plus a binary term that fixes where one half lies.

    Args:
        logits: (queries, GROUP), the first column each query's own document.
        order: The teacher's logits, labels included, of the same shape.
        likely: The probabilities of being relevant, of the same shape.
    """
    divergence = F.kl_div(
        logits.log_softmax(1), order.log_softmax(1), reduction="batchmean", log_target=True
    )
    return divergence + 0.5 * F.binary_cross_entropy_with_logits(logits, likely)


def learning_rate(highest: float, step: int, progress: float) -> float:
    """A warm-up of 100 steps, then a cosine down to 2% over the run's time."""
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return highest * min(1.0, (step + 1) / 100) * cosine


def save(model, tokenizer, mean: dict, state: dict, work: Path) -> None:
    """Write the mean of the last weights as a model folder, and the state to go on from."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(mean, strict=False)
    model.save_pretrained(work / "model")
    tokenizer.save_pretrained(work / "model")
    model.load_state_dict(own)
    torch.save(state | {"weights": own}, work / "state.tmp")
    (work / "state.tmp").replace(work / "state.pt")


def main() -> None:
    """Train, and write a checkpoint every few minutes."""
    options = parse_arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(options.seed)
    base = options.base or str(base_encoder_path())
    tokenizer = AutoTokenizer.from_pretrained(base, model_max_length=MAX_TOKENS)
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    draw = Draw(options.work_dir / "groups", options.seed)

    state = {}
    if options.resume:
        state = torch.load(options.work_dir / "state.pt", weights_only=False)
    elif options.start_from:
        state["weights"] = weights_in(options.start_from)
        state["shifts"] = shifts_in(options.start_from) if options.vectors else None
    weights, shifts = state.get("weights"), state.get("shifts")
    model = build_model(base, weights).to(device)
    trained = trainable(model)
    print(f"{sum(p.numel() for p in trained.values()):,} weights are trained", flush=True)
    optimiser = torch.optim.AdamW(
        trained.values(), lr=options.learning_rate, weight_decay=0.01, fused=True
    )
    mean = {name: p.detach().clone() for name, p in trained.items()}
    step, spent, pairs_seen = 0, 0.0, 0
    if options.resume:
        optimiser.load_state_dict(state["optimiser"])
        mean = state["mean"]
        draw.drawn |= state["drawn"]
        step, spent, pairs_seen = (state[k] for k in ("step", "spent", "pairs"))
        draw.rng.seed(f"{options.seed} {step}")
        print(f"going on from step {step}", flush=True)

    target = None
    if options.vectors:
        if shifts is None:
            raise ValueError("--vectors needs a run begun with it, from a folder of grow.py.")
        target = EncoderVectors(frozen_encoder(base, device), shifts.to(device))
    length, saved, recent = 60 * options.minutes, spent, []
    while spent < length:
        began = time.monotonic()
        closeness = VECTORS_WEIGHT * (1 - spent / length / options.vectors) if target else 0.0
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(options.learning_rate, step, spent / length)
        groups = [draw.group() for _ in range(options.groups)]
        groups.sort(key=lambda group: sum(len(document) for _, document in group[0]))
        optimiser.zero_grad(set_to_none=True)
        mean_loss, firsts, tokens = 0.0, 0.0, 0
        for start in range(0, options.groups, CHUNK):
            chunk = groups[start : start + CHUNK]
            targets = torch.from_numpy(np.array([t for _, t in chunk], np.float32)).to(device)
            pairs = [pair for group, _ in chunk for pair in group]
            compared = target if closeness > 0 else None
            logits, read, far = score(model, pairs, special, device, compared)
            logits = logits.view(len(chunk), GROUP)
            loss = loss_of(logits, targets[:, 0], targets[:, 1]) * len(chunk) / options.groups
            (loss + closeness * far * len(chunk) / options.groups).backward()
            mean_loss += loss.item()
            firsts += (logits.argmax(1) == 0).sum().item() / options.groups
            tokens += read
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimiser.step()
        step += 1
        with torch.no_grad():
            kept = min(MEAN_DECAY, step / (step + 10))
            for name, p in trained.items():
                mean[name].lerp_(p, 1 - kept)
        seconds = min(time.monotonic() - began, LONGEST_STEP)
        spent += seconds
        recent.append((mean_loss, firsts, tokens, seconds))
        pairs_seen += options.groups * GROUP
        if step % 25 == 0:
            mean_loss, firsts, tokens, seconds = np.mean(recent, axis=0)
            print(
                f"step {step}  loss {mean_loss:.3f}  own document first {firsts:.2f}"
                f"  {pairs_seen} pairs  {options.groups * GROUP / seconds:.0f} pairs/s"
                f"  {tokens / seconds:.0f} tokens/s  {(length - spent) / 60:.0f} min left",
                flush=True,
            )
            recent = []
        if spent - saved > 60 * options.save_minutes or spent >= length:
            state = {"optimiser": optimiser.state_dict(), "mean": mean, "drawn": draw.drawn}
            state |= {"step": step, "spent": spent, "pairs": pairs_seen, "shifts": shifts}
            save(model, tokenizer, mean, state, options.work_dir)
            saved = spent
            draw.read()
    print(f"done: {step} steps, {pairs_seen} pairs, {spent / 60:.0f} minutes")


if __name__ == "__main__":
    main()
