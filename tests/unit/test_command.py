"""The command and the environment that start vLLM."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deploy_files import read_unit, read_yaml

from helpers.errors import EngineMissingError, InputError
from helpers.server import command
from helpers.server.choices import Choice, Choices
from helpers.server.command import build_command, flag_list, normal_flags
from helpers.server.machine import ask
from helpers.server.probe import Engine, find_preloads

CPU_ENGINE = Engine("/env/bin/python", "0.32.0", True, True, Path("/env/bin/vllm"))
GPU_ENGINE = Engine("/env/bin/python", "0.26.0", False, True, Path("/env/bin/vllm"))


def made(device="cpu", **changes):
    values = {
        "device": device,
        "model": None,
        "dtype": "bfloat16",
        "cpus": (0, 1),
        "memory": 1,
        "eager": True,
        "preload": (),
        **changes,
    }
    return Choices(**{name: Choice(value, "Because.") for name, value in values.items()})


def build(engine=CPU_ENGINE, chosen=None, **options):
    settings = {"model": "/models/m", "served_name": "reranker", "port": 8123, **options}
    return build_command(engine, chosen or made(), **settings)


def value_of(words, flag):
    return words[words.index(flag) + 1]


def test_a_cpu_launch_has_the_flags_and_variables_that_make_it_fast():
    built = build()
    words = list(built.argv)
    assert words[:4] == ["/env/bin/python", str(command.QUICK_START), "serve", "/models/m"]
    assert value_of(words, "--host") == "127.0.0.1"
    assert value_of(words, "--port") == "8123"
    assert value_of(words, "--served-model-name") == "reranker"
    assert value_of(words, "--runner") == "pooling"
    assert value_of(words, "--dtype") == "bfloat16"
    assert "--enforce-eager" in words
    assert "--gpu-memory-utilization" not in words
    assert built.environment["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert built.environment["VLLM_NO_USAGE_STATS"] == "1"
    assert built.environment["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("flags", "cores"),
    [
        ({"tensor_parallel_size": 2}, "0,1|2,3"),
        ({"-tp": 2, "pipeline-parallel-size": "2"}, "0|1|2|3"),
        ({"data-parallel-size": 3}, "0|1|2"),
        ({"-dp": 8}, "0|1|2|3|0|1|2|3"),
        ({"distributed-executor-backend": "mp"}, "0,1,2,3"),
    ],
)
def test_each_worker_is_bound_to_processors_of_its_own(flags, cores):
    built = build(chosen=made(cpus=(0, 1, 2, 3)), flags=flags)
    assert built.environment["VLLM_CPU_OMP_THREADS_BIND"] == cores
    assert "OMP_NUM_THREADS=" not in built.text
    assert "uni" not in built.argv


def test_a_gpu_launch_has_a_share_of_memory_and_nothing_of_a_cpu():
    built = build(GPU_ENGINE, made("gpu", memory=0.06, eager=False, dtype="half"))
    words = list(built.argv)
    assert value_of(words, "--gpu-memory-utilization") == "0.06"
    assert value_of(words, "--dtype") == "half"
    assert "--enforce-eager" not in words
    assert "VLLM_CPU" not in built.text and "OMP_" not in built.text
    assert " CUDA_DEVICE_ORDER=PCI_BUS_ID " in built.text


def test_a_gpu_build_gets_no_settings_of_a_cpu():
    engine = Engine("/env/bin/python", "0.32.0", False, True, None, (), "the driver is too old")
    with pytest.raises(EngineMissingError, match=r"GPU build.*the driver is too old.*PROFILE=cpu"):
        build(engine)


def test_a_local_model_is_served_without_asking_the_hub(tmp_path):
    assert build(model=str(tmp_path)).environment["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in build(model="BAAI/bge-reranker-v2-m3").text


def test_a_name_of_its_own_is_not_repeated():
    assert "--served-model-name" not in build(model="a/b", served_name="a/b").argv


def test_flags_of_the_caller_win_and_unknown_ones_pass():
    words = list(build(flags={"dtype": "float32", "max_num_seqs": 64, "made-up": True}).argv)
    assert words.count("--dtype") == 1 and value_of(words, "--dtype") == "float32"
    assert value_of(words, "--max-num-seqs") == "64"
    assert words[-1] == "--made-up"


def test_flags_of_every_type_are_spelled_as_vllm_reads_them():
    assert flag_list({"a": True, "b": False, "c": None, "d": 1.5, "e": ["x", 2]}) == [
        *("--a", "--no-b", "--d", "1.5", "--e", "x", "2")
    ]
    assert flag_list({"hf-overrides": {"k": [1]}}) == ["--hf-overrides", '{"k": [1]}']
    assert flag_list({"lora-modules": [{"name": "é", "path": "/p"}]}) == [
        *("--lora-modules", '{"name": "é", "path": "/p"}')
    ]


def test_numbers_of_numpy_are_spelled_like_pythons():
    assert flag_list({"a": np.int64(8), "b": np.bool_(True), "c": [np.float32(0.5)]}) == [
        *("--a", "8", "--b", "--c", "0.5")
    ]
    assert flag_list({"d": {"k": np.int64(1), "p": Path("/p")}}) == ["--d", '{"k": 1, "p": "/p"}']


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("max_num_seqs", "max-num-seqs"),
        ("--max-num-seqs", "max-num-seqs"),
        ("hf-overrides.num_labels", "hf-overrides.num_labels"),
        ("--hf_overrides.text_config.num_labels", "hf-overrides.text_config.num_labels"),
        ("-tp", "-tp"),
        ("-O3", "-O3"),
    ],
)
def test_names_of_flags_are_spelled_as_vllm_reads_them(given, name):
    assert list(normal_flags({given: 1})) == [name]


def test_a_flag_in_two_spellings_is_refused():
    with pytest.raises(InputError, match="twice"):
        normal_flags({"max_num_seqs": 1, "--max-num-seqs": 2})


def test_none_leaves_out_a_flag_of_ours():
    assert (
        "--disable-uvicorn-access-log" not in build(flags={"disable-uvicorn-access-log": None}).argv
    )


@pytest.mark.parametrize("flag", ["port", "--port", "api_key", "model", "--api-ke", "mod"])
def test_flags_with_an_argument_of_their_own_are_refused(flag):
    with pytest.raises(InputError, match="write ScoreServer"):
        normal_flags({flag: "x"})


@pytest.mark.parametrize(
    "flag",
    [
        *("host", "--host", "hos", "uds", "ssl-keyfile", "ssl_certfile", "ssl-ca-certs", "grpc"),
        *("headless", "nnodes", "-n", "node-rank", "-r", "data-parallel-external-lb", "-dph"),
        *("data_parallel_address", "data-parallel-rank", "master-port", "config"),
    ],
)
def test_flags_that_move_the_server_away_from_where_it_is_watched_are_refused(flag):
    with pytest.raises(InputError, match="vllm_flags cannot hold") as caught:
        normal_flags({flag: "x"})
    assert (
        "ReverseProxy" in str(caught.value)
        or "SCORE_SERVER_URL" in str(caught.value)
        or ("Give what it holds" in str(caught.value))
    )


@pytest.mark.parametrize(
    "flag",
    [
        *("data-parallel-size", "tensor-parallel-size", "-dp", "config-format", "root-path"),
        *("api-server-count", "hf-config-path", "model-impl", "middleware", "max-model-len"),
    ],
)
def test_flags_that_leave_the_server_where_it_is_are_taken(flag):
    assert normal_flags({flag: 1}) == {flag: 1}


# Secrets


def shown(built):
    return built.text + built.lines + repr(built)


def test_a_key_goes_through_the_environment_and_is_never_shown():
    built = build(api_key="s3cret", env={"HF_TOKEN": "t0ken", "VLLM_API_KEY": "another"})
    assert built.environment["VLLM_API_KEY"] == "s3cret"
    assert built.environment["HF_TOKEN"] == "t0ken"
    for secret in ("s3cret", "t0ken", "another"):
        assert secret not in shown(built) + " ".join(built.argv)
    assert built.text.count("VLLM_API_KEY=") == 1
    assert 'HF_TOKEN="$HF_TOKEN" VLLM_API_KEY="$SCORE_API_KEY" ' in built.text


def test_a_token_of_the_hub_is_no_argument_that_others_on_the_machine_can_read():
    built = build(flags={"hf_token": "hf_abcdefghij"})
    assert built.environment["HF_TOKEN"] == "hf_abcdefghij"
    assert "hf_abcdefghij" not in shown(built) + " ".join(built.argv)
    assert "--hf-token" in build(flags={"hf-token": True}).argv


@pytest.mark.parametrize(
    ("flags", "env"),
    [
        ({"some-secret": "s3cret"}, {}),
        ({"aws.secret": "s3cret"}, {}),
        ({"otlp-traces-endpoint": "http://me:s3cret@collector:4317"}, {}),
        ({"model-loader-extra-config": {"a": [{"aws_secret_access_key": "s3cret"}]}}, {}),
        ({"kv-transfer-config": {"url": "redis://:s3cret@cache:1"}}, {}),
        ({"revision": "hf_s3cretS3cretS3cretS3cret"}, {}),
        ({}, {"AWS_SECRET_ACCESS_KEY": "s3cret"}),
        ({}, {"HTTPS_PROXY": "http://me:s3cret@proxy:3128"}),
        ({}, {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer s3cret"}),
        ({}, {"MY_PASSWORD": "s3cret"}),
    ],
)
def test_secrets_of_flags_and_variables_are_not_shown(flags, env):
    built = build(flags=flags, env=env)
    assert "s3cret" in str(built.argv) + str(built.environment)
    assert "s3cret" not in shown(built).lower()


def test_what_only_sounds_like_a_secret_is_shown():
    flags = {
        "max-num-batched-tokens": 64,
        "tokenizer": "a/b",
        "hf-overrides": {"eos_token": "</s>", "classifier_from_token": ["no", "yes"]},
    }
    text = build(flags=flags, env={"TOKENIZERS_PARALLELISM": "false"}).text
    assert "--max-num-batched-tokens 64" in text and "--tokenizer a/b" in text
    assert '"eos_token": "</s>"' in text and '["no", "yes"]' in text
    assert "TOKENIZERS_PARALLELISM=false" in text


# The environment


def test_variables_of_the_caller_are_set_shown_and_removed(monkeypatch):
    monkeypatch.setenv("LEFT_OVER", "1")
    built = build(env={"VLLM_LOGGING_LEVEL": "DEBUG", "LEFT_OVER": None})
    assert built.environment["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert built.text.count("VLLM_LOGGING_LEVEL=DEBUG") == 1
    assert "LEFT_OVER" not in built.environment


def test_a_library_that_the_platform_preloads_stays(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "/platform/one.so /platform/two.so")
    built = build(chosen=made(preload=("/lib/libtcmalloc.so.4",)))
    together = "/lib/libtcmalloc.so.4:/platform/one.so:/platform/two.so"
    assert built.environment["LD_PRELOAD"] == together
    assert build().environment["LD_PRELOAD"] == "/platform/one.so /platform/two.so"


# What a person types


def test_the_text_can_be_pasted_into_a_shell():
    built = build(model="/models/with space", flags={"hf-overrides": {"a": "it's"}})
    words = shlex.split(built.text)
    assert words[words.index("serve") :] == list(built.argv[2:])


def test_the_lines_are_the_text_and_a_shell_reads_them_alike():
    built = build(
        model="/models/with space",
        flags={"hf-overrides": {"a": "it's --b"}, "lora-modules": ["a=b", "c=d"]},
        env={"GREETING": "good morning"},
    )
    *first, last = built.lines.splitlines()
    assert all(line.endswith(" \\") for line in first) and not last.endswith("\\")
    assert max(map(len, first)) <= 82 and all(line.startswith("  --") for line in first[-2:])
    for typed in (built.lines, built.text):
        script = "vllm() { printf '%s\\n' \"$@\"; }\n" + typed.replace("/env/bin/vllm", "vllm")
        assert ask(["sh", "-c", script], 20).output.splitlines() == list(built.argv[2:])


def test_paths_below_home_are_written_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    text = build(model=f"{tmp_path}/m").text
    assert "serve ~/m " in text and str(tmp_path) not in text


def test_the_short_command_is_shown_only_where_it_is_the_right_one(monkeypatch, tmp_path):
    script = tmp_path / "vllm"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    engine = Engine("/env/bin/python", "0.32.0", True, True, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert " vllm serve " in build(engine).text
    monkeypatch.setenv("PATH", "/nowhere")
    assert f" {script} serve " in build(engine).text


def test_an_engine_without_its_command_is_started_by_its_module():
    built = build(Engine("/env/bin/python", "0.32.0", True, False, None))
    assert list(built.argv[1:5]) == [
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        "/models/m",
    ]


def test_what_is_preloaded_exists():
    assert all(Path(path).is_file() for path in find_preloads())


# vLLM's own word


@pytest.fixture(scope="module")
def parsed():
    """Give a function that lets vLLM's own parser read flags."""
    pytest.importorskip("vllm")
    code = """
import gc, json, sys
gc.disable()  # it takes a third of the imports
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
for words in json.load(sys.stdin):
    told = parser.parse_args(["m", *words])
    names = ("hf_overrides", "lora_modules", "tensor_parallel_size", "served_model_name")
    print(json.dumps([getattr(told, name) for name in names], default=vars))
print(json.dumps(sorted(flag for action in parser._actions for flag in action.option_strings)))
"""
    cases = [
        {"hf-overrides.num_labels": 1},
        {"lora_modules": [{"name": "a", "path": "/p"}]},
        {"-tp": 2},
        {"served-model-name": ["a", "b"]},
    ]
    told = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([flag_list(normal_flags(flags)) for flags in cases]),
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in told.stdout.splitlines() if line.startswith("[")]


def test_vllms_parser_reads_what_was_meant(parsed):
    overrides, lora, parallel, served, _ = parsed
    assert overrides[0] == {"num_labels": 1}
    assert lora[1][0]["name"] == "a" and lora[1][0]["path"] == "/p"
    assert parallel[2] == 2
    assert served[3] == ["a", "b"]


def test_every_flag_that_is_refused_exists_and_no_new_one_that_moves_a_server_is_missing(parsed):
    known = set(parsed[-1])
    refused = {f"--{name}" for name in (*command._OURS, *command._MOVING)}
    assert refused | set(command._SHORT_AND_MOVING) <= known | {"--grpc", "--headless", "--config"}
    moving = ("--ssl-", "--host", "--uds", "--node", "--nnodes", "--master-")
    assert {flag for flag in known if flag.startswith(moving)} <= refused


def test_vllm_knows_every_flag_of_the_unit_and_of_the_compose_file(parsed):
    (line,) = read_unit()["Service"]["ExecStart"]
    _, verb, *words = line.split()
    assert verb == "serve"
    words += read_yaml("compose.yaml")["services"]["score"]["command"]
    used = set(re.findall(r"--[a-z][a-z-]+", " ".join(words)))
    assert "--host" in used
    assert used - set(parsed[-1]) == set()
