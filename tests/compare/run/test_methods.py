"""A method is an entry in `METHODS` and its mixin: what the entry says is all that is asked of it."""

import inspect

import pytest
import yaml

from benchmarks.method_table import DATA
from ftp_hf.compare import ComparisonConfig
from ftp_hf.compare.run.method_kinds import Averaged, Continued, Derived, Projected, Trained
from ftp_hf.compare.run.methods import METHODS
from ftp_hf.compare.run.plan import Run
from ftp_hf.compare.run.runner import Runner
from ftp_hf.trainer.arguments import FTPTrainingArguments
from ftp_hf.trainer.plain import PlainTrainer


def keywords(mixin):
    return {name for kind in mixin.__mro__ for name in inspect.signature(kind.__init__).parameters}


def make_runner(images, folder, methods):
    content = {
        "task": "image-classification",
        "model": str(images / "model"),
        **{name: str(images / f"{name}.parquet") for name in ("train", "validation", "test")},
        "learning_rate": 1e-3,
        "seeds": [0],
        "methods": methods,
        "training": {"weight_decay": 0.25, "use_cpu": True},
    }
    file = folder / "trial.yaml"
    file.write_text(yaml.safe_dump(content))
    return Runner(ComparisonConfig.load(file), folder / "runs")


@pytest.mark.parametrize("name", METHODS)
def test_an_entry_fits_what_trains_it(name):
    method = METHODS[name]
    assert method.base is None or isinstance(METHODS[method.base], Trained)
    if isinstance(method, Projected):
        assert {f"ftp_{setting}" for setting in method.sweep} <= keywords(FTPTrainingArguments)
    elif isinstance(method, Continued):
        assert method.sweep.keys() == {"factor", "most"}
    elif isinstance(method, Derived):
        assert method.sweep.keys() <= inspect.signature(method.weights).parameters.keys()
    elif isinstance(method, Averaged):
        assert method.sweep.keys() == {"last"}
    else:
        of_mixin = {*method.sweep, *method.needs} - {*method.of_adapter}
        assert of_mixin <= (keywords(method.mixin) if method.mixin else set())
        assert {*method.of_adapter} <= inspect.signature(method.attach).parameters.keys()
        assert {*method.whole} <= method.sweep.keys()
        assert {*method.needs} <= {"new", *DATA}, "docs/methods.md says what data a method needs"


@pytest.mark.slow
def test_adding_a_method_takes_an_entry_and_its_mixin(images, tmp_path, monkeypatch):
    made = []

    class Scaled:
        def __init__(self, *args, scale, steps, new, **kwargs):
            super().__init__(*args, **kwargs)
            made.append((type(self).__mro__, scale, steps, new, self.args.weight_decay, self.args.learning_rate))

    settings = {"scale": (0.5,), "steps": (2,)}
    decided = {"weight_decay": 0.0}
    entry = Trained("Scaled", "nobody", settings, mixin=Scaled, needs=["new"], whole=["steps"], training=decided)
    monkeypatch.setitem(METHODS, "scaled", entry)
    half = Derived("Half", "nobody", {"share": (0.5, 2.0)}, base="scaled", weights=weights_of_share)
    monkeypatch.setitem(METHODS, "half", half)
    runner = make_runner(images, tmp_path, {"scaled": {}, "half": {"share": 0.5}})
    runner.check()
    ((classes, *arguments),) = made
    assert classes[1:3] == (Scaled, PlainTrainer)
    assert arguments == [0.5, 2, {"classifier.weight", "classifier.bias"}, 0.0, 1e-3]
    assert type(arguments[1]) is int
    with pytest.raises(ValueError, match="methods: half cannot be trained: a share is at most 1"):
        make_runner(images, tmp_path, {"scaled": {}, "half": {}}).check()
    with pytest.raises(ValueError, match=r"methods: scaled cannot be trained: steps must be a whole number, got 1\.5"):
        make_runner(images, tmp_path, {"scaled": {"steps": 1.5}}).check()
    with pytest.raises(ValueError, match="method 'half' builds on 'scaled': add it to methods"):
        make_runner(images, tmp_path, ["half"])


def test_what_the_config_says_holds_where_the_method_decides_nothing(images, tmp_path):
    runner = make_runner(images, tmp_path, ["plain", "spd", "ftp"])
    decays = {}
    for name in ("plain", "spd", "ftp"):
        setting = {key: values[0] for key, values in runner.config.methods[name].items()}
        options = runner.trained.common_arguments(Run(name, setting, 0), tmp_path)
        decays[name] = METHODS[name].arguments(setting, options).weight_decay
    assert decays == {"plain": 0.25, "spd": 0.0, "ftp": 0.25}


def test_kinds_of_runs_are_not_mixed_up(images, tmp_path):
    runner = make_runner(images, tmp_path, ["plain", "wise-ft"])
    alone = Run("wise-ft", {"alpha": 0.5}, 0)
    with pytest.raises(ValueError, match="is computed from a run of 'plain': name it as base"):
        runner.evaluate(alone)
    with pytest.raises(TypeError, match="is Derived, not Trained"):
        runner.train(alone)


def weights_of_share(start, end, share, *, new=()):  # noqa: ARG001 - as `interpolate`
    if share > 1:
        raise ValueError("a share is at most 1")
    return dict(end)


@pytest.mark.parametrize(
    ("method", "rate", "share"), [("ftp", 0.01, None), ("ftp-share", 0.01, 0.03), ("lora+ftp-share", 0.01, 0.03)]
)
def test_radii_learn_at_a_rate_or_at_a_share(method, rate, share, tmp_path):
    setting = {"learning_rate": 1e-4, **{name: values[0] for name, values in METHODS[method].sweep.items()}}
    arguments = METHODS[method].arguments(setting, {"output_dir": str(tmp_path)})
    assert (arguments.ftp_radius_lr, arguments.ftp_radius_share, arguments.learning_rate) == (rate, share, 1e-4)
    assert METHODS[method].adapter is method.startswith("lora")
