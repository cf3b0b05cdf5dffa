"""Ask vLLM's GPU build what it makes of commands; run by its interpreter, over the stub driver.

Reads a list of commands, each as the list of its arguments after `vllm serve`, as JSON on standard
input. Takes each through the steps that `vllm serve` takes before it starts an engine, and prints
what vLLM has settled on as one line of JSON that begins with MARK. vLLM logs before it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

MARK = "settled: "


def settle(arguments: list[str]) -> dict[str, Any]:
    """Take a command through vLLM's parser, model and engine configuration."""
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers import cli_args
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.attention.selector import get_attn_backend

    parser = cli_args.make_arg_parser(FlexibleArgumentParser())
    parsed = parser.parse_args(arguments)
    cli_args.validate_parsed_serve_args(parsed)
    parsed.model = parsed.model_tag
    given = AsyncEngineArgs.from_cli_args(parsed)
    config = given.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    model, cache = config.model_config, config.cache_config
    heads = model.get_num_attention_heads(config.parallel_config)
    with set_current_vllm_config(config):
        attention = get_attn_backend(
            model.get_head_size(),
            model.dtype,
            cache.cache_dtype,
            attn_type=model.attn_type,
            num_heads=heads,
        )
    # Keys and values, two bytes a number.
    layers = model.get_num_layers(config.parallel_config)
    each = 2 * 2 * layers * model.get_num_kv_heads(config.parallel_config) * model.get_head_size()
    return {
        "card": current_platform.get_device_name(),
        "capability": list(current_platform.get_device_capability()),
        "architecture": model.architecture,
        "reads": model.attn_type,
        "attention": attention.get_name(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "share": cache.gpu_memory_utilization,
        "length": model.max_model_len,
        "cache": 0 if model.attn_type == "encoder_only" else each,
        "at once": config.scheduler_config.max_num_batched_tokens,
    }


def main() -> None:
    """Answer one question: the commands, or, given the argument `code`, what torch is built for."""
    if sys.argv[1:] == ["code"]:
        import torch

        found: Any = {"built_for": torch.cuda.get_arch_list(), "cuda": torch.version.cuda}
    else:
        found = [settle(arguments) for arguments in json.load(sys.stdin)]
    print(MARK + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
