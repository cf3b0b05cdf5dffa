"""The command and the environment that start vLLM."""

import shlex
import sys
from pathlib import Path

import pytest

from helpers.errors import EngineMissingError, InputError
from helpers.server import command
from helpers.server import plan as choices
from helpers.server.command import Engine, build_command, find_engine, flag_list, normal_flags
from helpers.server.plan import Choice, Choices

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
    assert words[:5] == ["/env/bin/python", "-m", "vllm.entrypoints.cli.main", "serve", "/models/m"]
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


def test_more_workers_than_one_are_bound_to_processors_by_vllm():
    built = build(flags={"tensor_parallel_size": 2})
    assert built.environment["VLLM_CPU_OMP_THREADS_BIND"] == "0,1"
    assert "OMP_NUM_THREADS=" not in built.text
    assert "--distributed-executor-backend" not in built.argv


def test_a_gpu_launch_has_a_share_of_memory_and_nothing_of_a_cpu():
    built = build(GPU_ENGINE, made("gpu", memory=0.06, eager=False, dtype="half"))
    words = list(built.argv)
    assert value_of(words, "--gpu-memory-utilization") == "0.06"
    assert value_of(words, "--dtype") == "half"
    assert "--enforce-eager" not in words
    assert "VLLM_CPU" not in built.text and "OMP_" not in built.text


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


def test_none_leaves_out_a_flag_of_ours():
    assert (
        "--disable-uvicorn-access-log" not in build(flags={"disable-uvicorn-access-log": None}).argv
    )


@pytest.mark.parametrize("flag", ["port", "--port", "api_key", "model"])
def test_flags_with_an_argument_of_their_own_are_refused(flag):
    with pytest.raises(InputError, match="write ScoreServer"):
        normal_flags({flag: "x"})


def test_a_key_goes_through_the_environment_and_is_never_shown():
    built = build(api_key="s3cret", env={"HF_TOKEN": "t0ken"})
    assert built.environment["VLLM_API_KEY"] == "s3cret"
    assert built.environment["HF_TOKEN"] == "t0ken"
    shown = built.text + repr(built) + " ".join(built.argv)
    assert "s3cret" not in shown and "t0ken" not in shown
    assert 'VLLM_API_KEY="$SCORE_API_KEY"' in built.text


def test_variables_of_the_caller_are_set_shown_and_removed(monkeypatch):
    monkeypatch.setenv("LEFT_OVER", "1")
    built = build(env={"VLLM_LOGGING_LEVEL": "DEBUG", "LEFT_OVER": None})
    assert built.environment["VLLM_LOGGING_LEVEL"] == "DEBUG"
    assert built.text.count("VLLM_LOGGING_LEVEL=DEBUG") == 1
    assert "LEFT_OVER" not in built.environment


def test_a_server_starts_quickly_and_keeps_the_callers_paths(monkeypatch):
    folder = str(command.QUICK_START)
    assert build().environment["PYTHONPATH"] == folder
    monkeypatch.setenv("PYTHONPATH", "/mine")
    same = Engine(sys.executable, "0.32.0", True, False, None)
    assert build(same).environment["PYTHONPATH"] == f"{folder}:/mine"
    plain = build(env={"PYTHONPATH": None})
    assert "PYTHONPATH" not in plain.environment and "PYTHONPATH" not in plain.text


def test_the_text_can_be_pasted_into_a_shell():
    built = build(model="/models/with space", flags={"hf-overrides": {"a": "it's"}})
    words = shlex.split(built.text)
    assert words[-len(built.argv) + 3 :] == list(built.argv[3:])


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


def test_what_belongs_to_a_notebook_is_kept_from_the_server(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://inline")
    monkeypatch.setenv("PYTHONPATH", "/kernel/only")
    other = command.inherited_environment("/another/python")
    same = command.inherited_environment(sys.executable)
    assert "MPLBACKEND" not in same and same["PYTHONPATH"] == "/kernel/only"
    assert "PYTHONPATH" not in other


def test_an_interpreter_is_asked_without_importing_vllm(monkeypatch, tmp_path):
    package = tmp_path / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert find_engine(sys.executable).python == sys.executable


def test_an_interpreter_that_fails_is_quoted(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'broken beyond repair' >&2\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(EngineMissingError, match=r"ended with code 3.*broken beyond repair"):
        find_engine(str(python))


def test_what_is_preloaded_exists():
    assert all(Path(path).is_file() for path in command.find_preloads())
    assert choices.choose_preload("cpu", ()).value == ()
