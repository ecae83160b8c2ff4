"""Methods that have the pre-trained model beside the trained one, on each kind of task that they are meant for."""

import pytest

from ftp_hf.compare import ComparisonConfig, compare
from ftp_hf.compare.run.runner import Runner
from tests.support.tiny_data import image_config, write_config
from tests.support.tiny_language import answers_config

pytestmark = pytest.mark.slow


def load(folder, content, **training):
    content["training"] |= training
    return ComparisonConfig.load(write_config(folder, content))


def moved(results, figure, kind):
    """How far the chosen run of each method has moved from the pre-trained model's answers, or features."""
    found = {}
    for method in results.methods:
        (run,) = results.chosen_runs(method.name)
        found[method.name] = next(
            value for result in run.summary.results if result.kind == kind for value in result.metrics[figure].values()
        )
    return found


def test_language_models(answers, tmp_path):
    methods = {"plain": {}, "kl": {"lambda_": [100.0]}, "ldifs": {"lambda_": [10.0]}, "flow": {}}
    content = answers_config(answers, methods=methods, learning_rate=[1e-2])
    results = compare(load(tmp_path, content), tmp_path / "out")
    found = moved(results, "kl", "id")
    assert found["kl"] < 0.7 * found["plain"]
    assert found["ldifs"] < found["plain"]
    assert found["flow"] != found["plain"]


def test_recognisers(tmp_path):
    pytest.importorskip("soundfile")
    pytest.importorskip("jiwer")
    from tests.support.speech import save_whisper, sounds  # noqa: PLC0415

    save_whisper(tmp_path / "model")
    for number, name in enumerate(("train", "validation", "test", "pale")):
        sounds(4, noise=0.1 * number).to_parquet(tmp_path / f"{name}.parquet")
    methods = {"plain": {}, "kl": {"lambda_": [100.0]}, "ldifs": {"lambda_": [10.0]}, "flow": {}}
    content = image_config(
        tmp_path, task="automatic-speech-recognition", seeds=[0], learning_rate=[1e-2], max_seconds=1, methods=methods
    )
    results = compare(load(tmp_path, content, per_device_train_batch_size=2), tmp_path / "out")
    found = moved(results, "kl", "id")
    assert found["kl"] < 0.7 * found["plain"]
    assert found["ldifs"] < found["plain"]
    assert found["flow"] != found["plain"]


def test_encoders_of_sentences(tmp_path):
    pytest.importorskip("sentence_transformers")
    from tests.support.tiny_language import make_pairs, pairs_config  # noqa: PLC0415 - needs tokenizers

    pairs = make_pairs(tmp_path / "data")
    content = pairs_config(pairs, methods={"plain": {}, "ldifs": {"lambda_": [10.0]}}, learning_rate=[1e-2])
    found = moved(compare(load(tmp_path, content), tmp_path / "out"), "hidden_change", "id")
    assert found["ldifs"] < 0.7 * found["plain"]
    refused = pairs_config(pairs, methods=["kl", "flow"], learning_rate=[1e-2])
    with pytest.raises(ValueError, match="methods: kl cannot be trained: kl needs a model whose answers") as raised:
        Runner(load(tmp_path, refused), tmp_path / "runs").check()
    assert any("flow cannot be trained" in note for note in raised.value.__notes__)


def test_new_heads(images, tmp_path):
    methods = {"plain": {}, "linear-probe": {}, "ldifs": {"lambda_": [10.0]}, "lp-flow": {}}
    content = image_config(images, methods=methods, seeds=[0], learning_rate=[1e-2])
    results = compare(load(tmp_path, content, num_train_epochs=2), tmp_path / "out")
    found = moved(results, "hidden_change", "id")
    assert found["ldifs"] < 0.7 * found["plain"]
    assert 0 < found["lp-flow"] != found["plain"]
    refused = image_config(images, methods=["kl", "flow"], seeds=[0], learning_rate=[1e-2])
    with pytest.raises(ValueError, match=r"methods: kl cannot be trained: .* are new.*: use 'ldifs'") as raised:
        Runner(load(tmp_path, refused), tmp_path / "runs").check()
    assert any("'lp-flow'" in note for note in raised.value.__notes__)
