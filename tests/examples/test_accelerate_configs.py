"""The launcher configs in examples/accelerate: each key is one that Accelerate reads, and says what its comment says."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env, prepare_simple_launcher_cmd_env
from digits.data import load_split, to_dataset
from torch.distributed.fsdp import StateDictType
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
from transformers import BertForSequenceClassification, ViTForImageClassification

from ftp_hf import RunSummary
from tests.support.launch import WORKERS, environment
from tests.support.models import tiny_bert_config, tiny_vit_config

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIGS = {path.stem: path for path in sorted((EXAMPLES / "accelerate").glob("*.yaml"))}
every_config = pytest.mark.parametrize("name", CONFIGS)


def launched(name, *flags):
    """The arguments that `accelerate launch --config_file NAME FLAGS script.py` goes by."""
    parser = launch_command_parser()
    args = parser.parse_args(["--config_file", str(CONFIGS[name]), *flags, "script.py"])
    return _validate_launch_command(args)[0]


def test_there_is_one_for_every_way_to_launch():
    assert set(CONFIGS) == {"cpu", "single_gpu", "multi_gpu_ddp", "fsdp2", "multi_node"}


@every_config
def test_accelerate_loads_it(name):
    config = load_config_from_file(str(CONFIGS[name]))
    assert type(config) is ClusterConfig
    kinds = {"cpu": "NO", "single_gpu": "NO", "multi_gpu_ddp": "MULTI_GPU", "fsdp2": "FSDP", "multi_node": "FSDP"}
    assert config.distributed_type.value == kinds[name]


@every_config
def test_two_lines_say_what_it_is_for_and_how_to_launch_it(name):
    purpose, command, first_key, *_ = CONFIGS[name].read_text().splitlines()
    assert purpose.startswith("# ")
    assert command.startswith(f"# accelerate launch --config_file examples/accelerate/{name}.yaml ")
    assert all((EXAMPLES.parent / word).is_file() for word in command.split() if word.startswith("examples/"))
    assert not first_key.startswith("#")


@every_config
def test_every_key_is_read(name):
    config = yaml.safe_load(CONFIGS[name].read_text())
    assert config.pop("compute_environment") == "LOCAL_MACHINE"
    kind = config.pop("distributed_type")
    fsdp = config.pop("fsdp_config", {})
    args = vars(launched(name))
    assert (args["multi_gpu"], args["use_fsdp"]) == (kind == "MULTI_GPU", kind == "FSDP")
    # The launcher takes from the config what has no default of its own: others (same_network) are silently ignored.
    assert {key: args[key] for key in config} == config
    # It takes any key of fsdp_config, but reads only those that are flags as well.
    assert fsdp.keys() <= {action.dest for action in launch_command_parser()._actions}
    assert {key: args[key] for key in fsdp} == fsdp
    assert bool(fsdp) == (kind == "FSDP")


@pytest.fixture(params=["fsdp2", "multi_node"])
def plugin(request, monkeypatch):
    """What the launched processes make of the environment that the config and these flags give them."""

    def make(*flags):
        env = prepare_multi_gpu_env(launched(request.param, "--machine_rank", "1", *flags))
        for key, value in env.items():
            monkeypatch.setenv(key, value)
        assert (env["ACCELERATE_USE_FSDP"], env["ACCELERATE_MIXED_PRECISION"]) == ("true", "bf16")
        return FullyShardedDataParallelPlugin()

    return make


def test_fsdp2_is_what_the_processes_get(plugin):
    plugin = plugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.cpu_ram_efficient_loading is False
    assert plugin.state_dict_type == StateDictType.SHARDED_STATE_DICT
    assert plugin.auto_wrap_policy is transformer_auto_wrap_policy


@pytest.mark.parametrize(
    ("flags", "model_class", "config", "layer"),
    [
        ([], BertForSequenceClassification, tiny_bert_config(), "BertLayer"),
        (
            ["--fsdp_transformer_layer_cls_to_wrap", "ViTLayer"],
            ViTForImageClassification,
            tiny_vit_config(),
            "ViTLayer",
        ),
    ],
)
def test_fsdp2_wraps_the_models_layers(plugin, flags, model_class, config, layer):
    plugin = plugin(*flags)
    plugin.set_auto_wrap_policy(model_class(config))
    # Not the embeddings, which Accelerate wraps by itself and could not wrap twice.
    assert [wrapped.__name__ for wrapped in plugin.auto_wrap_policy.keywords["transformer_layer_cls"]] == [layer]


def test_flags_win_over_the_placeholders_of_two_machines():
    args = launched("multi_node", "--machine_rank", "1", "--main_process_ip", "10.0.0.7", "--num_processes", "4")
    prepare_multi_gpu_env(args)
    assert (args.nnodes, args.nproc_per_node, args.node_rank) == ("2", "2", 1)
    assert args.rdzv_endpoint == "10.0.0.7:29500"


def test_one_gpu_hides_the_others():
    _, env = prepare_simple_launcher_cmd_env(launched("single_gpu"))
    assert (env["CUDA_VISIBLE_DEVICES"], env["ACCELERATE_MIXED_PRECISION"]) == ("0", "bf16")
    _, env = prepare_simple_launcher_cmd_env(launched("single_gpu", "--gpu_ids", "3"))
    assert env["CUDA_VISIBLE_DEVICES"] == "3"


@pytest.fixture(scope="module")
def launch_example(tmp_path_factory):
    """Fine-tune the demo's model through `accelerate launch`: 10 steps of 20 images, on the CPU. What it logged."""
    folder = tmp_path_factory.mktemp("launched")
    to_dataset(*load_split("train")).to_parquet(folder / "train.parquet")
    train = folder / "train.parquet"

    @functools.cache
    def run(name, *flags, wrapper=None, batch=20):
        command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", CONFIGS[name], *flags]
        command += (
            [wrapper, EXAMPLES / "image_classification.py"] if wrapper else [EXAMPLES / "image_classification.py"]
        )
        command += ["--config", EXAMPLES / "configs" / "digits_ftp.yaml", "--model", EXAMPLES / "digits" / "vit"]
        command += ["--train", train, "--validation", train, "--test", train, "--ood", train, "--max_steps", 10]
        command += ["--logging_steps", 5, "--per_device_train_batch_size", batch, "--output_dir", folder / name]
        command += ["--use_cpu", "true"] if name != "cpu" else []
        finished = subprocess.run(
            [*map(str, command)], env=environment(), capture_output=True, text=True, check=False, timeout=300
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        assert RunSummary.load(folder / name).steps == 10
        logs = json.loads((folder / name / "trainer_state.json").read_text())["log_history"]
        keys = ("loss", "grad_norm", "ftp_radius_max", "ftp_deviation_max")
        return [{key: entry[key] for key in keys} for entry in logs if "loss" in entry]

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "flags", "wrapper"),
    [
        ("multi_gpu_ddp", [], None),
        ("fsdp2", ["--fsdp_transformer_layer_cls_to_wrap", "ViTLayer"], WORKERS / "on_fsdp.py"),
    ],
)
def test_two_processes_train_the_model_of_the_cpu_config(launch_example, name, flags, wrapper):
    one = launch_example("cpu")
    two = launch_example(name, "--num_processes", "2", "--mixed_precision", "no", *flags, wrapper=wrapper, batch=10)
    assert len(one) == 2
    assert one[1]["ftp_radius_max"] > one[0]["ftp_radius_max"] > 1e-3
    for actual, expected in zip(two, one, strict=True):
        assert actual == pytest.approx(expected, rel=1e-5)
