"""Ray Serve with vLLM's /score: each replica holds an engine, and answers as `vllm serve` does.

On one machine, or in a job on a cluster, from the folder of this file:

    serve run score_app:build model=/models/reranker name=my-reranker

The replicas run vLLM's own web application, so that requests, answers and errors are those of
`vllm serve`, on all its routes. Ray Serve gives them one address, replaces those that die, and
starts and ends replicas with the load. Written for Ray 2.60 and vLLM 0.32.
"""

import gc
import os
from contextlib import AsyncExitStack

from ray import serve


@serve.deployment(
    max_ongoing_requests=64,  # in a replica at a time; more wait in Ray Serve
    max_queued_requests=1_000,  # more are answered with 503
    autoscaling_config={"min_replicas": 2, "max_replicas": 4, "target_ongoing_requests": 16},
    graceful_shutdown_timeout_s=60,  # for the requests that a replica still has when it must go
    ray_actor_options={"num_cpus": 1},  # on a cluster with GPUs: {"num_gpus": 1}
)
@serve.ingress()
class VllmScores:
    """Hold vLLM's engine and its web application.

    Args:
        model: A folder that every machine of the cluster has, or a name on the hub.
        name: What clients ask for.
        flags: More flags of `vllm serve`, such as ["--dtype", "bfloat16"].
        env: Environment variables that vLLM reads.
    """

    async def __init__(self, model: str, name: str, flags: list[str], env: dict[str, str]) -> None:
        os.environ.update(env)
        gc.disable()  # else it takes a third of the time that the imports take
        # Only now, since vLLM reads the variables while it is imported.
        from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
        from vllm.utils.argparse_utils import FlexibleArgumentParser

        gc.freeze()
        gc.enable()
        words = ["--model", model, "--served-model-name", name, "--runner", "pooling", *flags]
        self._arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(words)
        self._held = AsyncExitStack()
        engine = build_async_engine_client(self._arguments)
        self._engine = await self._held.enter_async_context(engine)

    async def __serve_build_asgi_app__(self):
        """Return vLLM's web application; Ray Serve calls this after `__init__`."""
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.launchers.app import build_app

        tasks = await self._engine.get_supported_tasks()
        app = build_app(self._arguments, tasks, self._engine.model_config)
        await init_app_state(self._engine, app.state, self._arguments, tasks)
        return app

    async def check_health(self) -> None:
        """Raise if the engine is dead; Ray Serve asks regularly, and replaces the replica then."""
        await self._engine.check_health()

    async def __del__(self) -> None:
        """End the engine; Ray Serve calls this once the last request is answered."""
        await self._held.aclose()


def build(settings: dict) -> serve.Application:
    """Return the application, for `serve run` and for the files of `serve deploy` and KubeRay.

    settings: the arguments of `VllmScores` by name; `flags` and `env` may be missing.
    """
    given = {"flags": [], "env": {}, **settings}
    return VllmScores.bind(given["model"], given["name"], given["flags"], given["env"])
