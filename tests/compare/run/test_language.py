"""Comparisons of language models and of encoders of sentences, killed and resumed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ftp_hf.compare import ComparisonConfig, compare
from tests.support.comparing import figures
from tests.support.tiny_data import write_config
from tests.support.tiny_language import answers_config, make_pairs, pairs_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    pytest.importorskip("sentence_transformers")
    return make_pairs(tmp_path_factory.mktemp("pairs"))


def values(results):
    """Metric → value, by the data set."""
    return {
        result.data: {name: value for name, by_seed in result.metrics.items() for value in by_seed.values()}
        for result in results
    }


def test_language_models(answers, tmp_path):
    rules = ["retained/plain:loss <= pretrained + 9", "retained/choices:acc_norm >= 0", "kl/retained <= 99"]
    content = answers_config(
        answers, methods={"plain": {}, "ftp": {}, "wise-ft": {"alpha": [0.5]}, "lora": {}}, rules=rules
    )
    config = ComparisonConfig.load(write_config(tmp_path, content))
    results = compare(config, tmp_path / "out")
    before = values(results.pretrained)
    assert before.keys() == {"validation", "test", "other", "plain", "instructions", "choices"}
    for method in results.methods:
        swept = [run for run in results.runs if run.method == method.name]
        [chosen] = results.chosen_runs(method.name)
        assert chosen.value("validation", "loss") == min(run.value("validation", "loss") for run in swept)
        after = values(chosen.summary.results)
        assert set(after["choices"]) == {"acc_norm", "acc", "kl"}
        for name in ("test", "other", "plain", "instructions"):
            assert set(after[name]) == {"loss", "kl"}
            assert after[name]["kl"] > 0
        assert set(after["validation"]) == {"loss"}
    assert values(results.chosen_runs("plain")[0].summary.results)["test"]["loss"] < before["test"]["loss"]
    assert "acc_norm" in (tmp_path / "out" / "report.md").read_text()


def test_methods_for_models_whose_heads_are_not_new(answers, pairs, tmp_path):
    methods = {"plain": {}, "mofo": {"fraction": 0.1}, "ewc": {"lambda_": 1e4}}
    content = answers_config(answers, methods=methods, learning_rate=1e-2, retained=[])
    results = compare(ComparisonConfig.load(write_config(tmp_path, content)), tmp_path / "out")
    loss = {run.method: run.value("validation", "loss") for run in results.runs}
    assert loss["plain"] < min(loss["mofo"], loss["ewc"])
    content = pairs_config(pairs, methods={"plain": {}, "ewc": {"lambda_": 1e4}})
    with pytest.raises(
        ValueError, match="ewc cannot be trained: SentenceTransformer does not answer with distributions"
    ):
        compare(ComparisonConfig.load(write_config(tmp_path, content)), tmp_path / "pairs")


def test_encoders_of_sentences(pairs, tmp_path):
    config = ComparisonConfig.load(write_config(tmp_path, pairs_config(pairs)))
    results = compare(config, tmp_path / "out")
    assert [result.data for result in results.pretrained] == ["validation", "test", "other"]
    for method in results.methods:
        swept = [run for run in results.runs if run.method == method.name]
        [chosen] = results.chosen_runs(method.name)
        assert chosen.value("validation", "spearman") == max(run.value("validation", "spearman") for run in swept)
        assert set(values(chosen.summary.results)["other"]) == {"spearman", "pearson", "hidden_change"}


@pytest.mark.parametrize("kind", ["answers", "pairs"])
def test_killed_it_comes_to_the_same(kind, request, tmp_path):
    folder = request.getfixturevalue(kind)
    make = {"answers": answers_config, "pairs": pairs_config}[kind]
    config = write_config(
        tmp_path,
        make(
            folder,
            methods={"ftp": {}},
            learning_rate=[1e-2],
            training={"num_train_epochs": 3, "per_device_train_batch_size": 4, "use_cpu": True, "bf16": False},
        ),
    )
    once = compare(ComparisonConfig.load(config), tmp_path / "once")
    command = [sys.executable, "-m", "ftp_hf", "compare", str(config), "--output_dir", str(tmp_path / "killed")]
    process = subprocess.Popen(command, env=os.environ)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "killed").glob("runs/*/checkpoint-*/checksums.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    again = compare(ComparisonConfig.load(config), tmp_path / "killed")
    assert figures(again) == figures(once)
