"""Make a tiny decoder in the form of Qwen3, to see how such a reranker is served.

Its weights are random numbers of a fixed seed, so it ranks nothing. It shows what vLLM does with a
model of this kind (which text it builds, which tokens it reads, what changes the score), on any
machine, in seconds and without a model hub. Written in NumPy: a kernel needs no PyTorch for it.
"""

from __future__ import annotations

import json
from pathlib import Path

from helpers.server.model import make_folder

WIDTH, LAYERS, HEADS, KEY_HEADS, HEAD, INNER = 64, 2, 4, 2, 32, 128
SEED = 0
SPREAD = 0.15  # of the random weights: wide enough that every token of a pair moves its score
# A byte has one of 256 values. "no" and "yes" are the tokens whose logits make the score.
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
ANSWERS = ("no", "yes")


def tiny_decoder_path() -> Path:
    """Return the folder of a decoder with 100,000 random weights, and make it on first use.

    Its tokenizer makes one token of each byte of a text, and one of each marker that the templates
    of Qwen3 use, so that tokens can be counted by eye.
    """
    from helpers.server.records import state_dir

    folder = state_dir() / "models" / f"tiny-qwen3-reranker-{SEED}"
    return folder if folder.is_dir() else make_folder(folder, _write)


def _write(folder: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    rng = np.random.default_rng(SEED)

    def random(*shape: int) -> np.ndarray:
        return rng.normal(0, SPREAD, shape).astype(np.float32)

    vocabulary = 256 + len(SPECIAL) + len(ANSWERS)
    weights = {
        "model.embed_tokens.weight": random(vocabulary, WIDTH),
        "model.norm.weight": np.ones(WIDTH, np.float32),
    }
    for number in range(LAYERS):
        layer = f"model.layers.{number}"
        weights |= {
            f"{layer}.self_attn.q_proj.weight": random(HEADS * HEAD, WIDTH),
            f"{layer}.self_attn.k_proj.weight": random(KEY_HEADS * HEAD, WIDTH),
            f"{layer}.self_attn.v_proj.weight": random(KEY_HEADS * HEAD, WIDTH),
            f"{layer}.self_attn.o_proj.weight": random(WIDTH, HEADS * HEAD),
            f"{layer}.mlp.gate_proj.weight": random(INNER, WIDTH),
            f"{layer}.mlp.up_proj.weight": random(INNER, WIDTH),
            f"{layer}.mlp.down_proj.weight": random(WIDTH, INNER),
        }
        for norm, size in (("q", HEAD), ("k", HEAD)):
            weights[f"{layer}.self_attn.{norm}_norm.weight"] = np.ones(size, np.float32)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{layer}.{norm}.weight"] = np.ones(WIDTH, np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "head_dim": HEAD,
        "vocab_size": vocabulary,
        "max_position_embeddings": 4096,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "eos_token_id": 256,
    }
    _save(folder / "config.json", config)
    _save(folder / "tokenizer.json", _tokenizer())
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 4096,
        "eos_token": SPECIAL[0],
        "pad_token": SPECIAL[0],
    }
    _save(folder / "tokenizer_config.json", settings)


def _tokenizer() -> dict[str, object]:
    by_bytes = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    added = [(name, True) for name in SPECIAL] + [(name, False) for name in ANSWERS]
    return {
        "version": "1.0",
        "added_tokens": [
            {
                "id": 256 + number,
                "content": name,
                "single_word": not special,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": special,
            }
            for number, (name, special) in enumerate(added)
        ],
        "normalizer": None,
        "pre_tokenizer": by_bytes,
        "post_processor": None,
        "decoder": by_bytes,
        "model": {
            "type": "BPE",
            "vocab": {letter: number for number, letter in enumerate(_letters())},
            "merges": [],
        },
    }


def _letters() -> list[str]:
    """Return the letter that byte-level tokenizers write for each byte (that of GPT-2).

    A byte that prints keeps its own letter; the others get those from number 256 on, in order.
    """
    printing = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printing]
    return [chr(byte if byte in printing else 256 + others.index(byte)) for byte in range(256)]


def _save(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), "utf-8")
