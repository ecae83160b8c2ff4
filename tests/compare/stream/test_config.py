"""The config of a stream, and the runs that it asks for: nothing is trained here."""

import pytest

from ftp_hf.cli import main
from ftp_hf.compare.stream.config import StreamConfig
from ftp_hf.compare.stream.plan import stages_before
from tests.support.tiny_data import write_config
from tests.support.tiny_streams import STAGES, chain, stream_config


def load(folder, **changes):
    return StreamConfig.load(write_config(folder, stream_config(folder, **changes)))


def test_each_stage_has_its_own_data_and_the_test_sets_of_the_others(tmp_path):
    config = load(tmp_path)
    assert list(config.stages) == STAGES
    songs = config.stages["songs"]
    assert songs.train == f"{tmp_path / 'train'}.parquet?domain=songs"
    assert songs.ood == [f"{name}={tmp_path / 'test'}.parquet?domain={name}" for name in ("films", "meals")]
    named = load(tmp_path, stages={"movies": "films", "food": "meals"})
    assert named.stages["movies"].test == f"{tmp_path / 'test'}.parquet?domain=films"
    assert named.stages["movies"].ood == [f"food={tmp_path / 'test'}.parquet?domain=meals"]


def test_orders_are_drawn_once_and_for_all(tmp_path):
    orders = load(tmp_path, orders=6).orders
    assert orders[0] == STAGES
    assert len({tuple(order) for order in orders}) == 6
    assert load(tmp_path, orders=2).orders == orders[:2]
    assert load(tmp_path, orders=[["meals", "films", "songs"]]).orders == [["meals", "films", "songs"]]


def runs(config, method, order, tmp_path):
    return [run.folder(tmp_path, config.first) for run in chain(config, method, order, 0)]


def test_what_streams_begin_with_in_common_is_the_same_run(tmp_path):
    methods = {
        "plain": {},
        "kl": {"lambda_": 1},
        "replay": {},
        "ftp": {},
        "ftp-first": {},
        "lora": {},
        "lora-merged": {},
    }
    config = load(tmp_path, methods={**methods, "joint": {}})
    other = ["films", "meals", "songs"]
    found = {name: runs(config, name, STAGES, tmp_path) for name in config.methods}
    assert len(found["joint"]) == 1
    assert found["plain"][0] == found["kl"][0] == found["replay"][0]
    assert found["ftp"][0] == found["ftp-first"][0]
    assert runs(config, "plain", other, tmp_path)[0] == found["plain"][0]
    later = [folder for name in methods for folder in found[name][1:]]
    assert len(set(later)) == len(later)
    assert runs(config, "plain", other, tmp_path)[1:] != found["plain"][1:]
    last = chain(config, "plain", STAGES, 0)[-1]
    assert stages_before(last) == ["films", "songs"]


def test_joint_training_on_other_data_is_another_run(tmp_path):
    def joint(**stages):
        config = load(tmp_path, stages=stages, methods={"joint": {}, "plain": {}})
        return runs(config, "joint", list(stages), tmp_path)

    assert joint(a="films", b="songs") == joint(a="films", b="songs")
    assert joint(a="films", b="songs") != joint(a="films", b="meals")


def test_a_setting_has_one_value(tmp_path):
    config = load(tmp_path, methods={"replay": {"rows": 3, "learning_rate": 1e-3}, "ftp": {}})
    assert config.methods == {
        "replay": {"learning_rate": 1e-3, "rows": 3.0},
        "ftp": {"learning_rate": 3e-3, "kappa": 1.0, "radius_lr": 1e-2},
    }


def test_rules_stand_in_the_config_or_in_a_file_beside_it(tmp_path):
    rules = ["earlier_worst >= learnt - 0.05", "retained_mean:f1 >= 0.5", "id/test >= 0.8"]
    (tmp_path / "rules.yaml").write_text(f"rules: {rules}")
    retained = ["old=old.parquet"]
    config = load(tmp_path, rules="rules.yaml", when_broken="alert", retained=retained)
    assert config.rules == load(tmp_path, rules=rules, retained=retained).rules
    assert [(rule.text, rule.metric) for rule in config.rules] == list(
        zip(rules, ("accuracy", "f1", "accuracy"), strict=True)
    )
    assert (config.when_broken, load(tmp_path, rules=rules, retained=retained).when_broken) == ("alert", "roll_back")
    # How runs are judged is no part of how they are trained.
    assert runs(config, "plain", STAGES, tmp_path) == runs(load(tmp_path), "plain", STAGES, tmp_path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"methods": {"l2-sp": {}}}, r"one value of alpha: give one, such as one of \[0.001"),
        ({"methods": {"fpt": {}}}, r"unknown method 'fpt' \(did you mean 'ftp'\?\)"),
        ({"methods": {"replay": {"rows": 0.5}}}, "rows must be a whole number"),
        ({"methods": {"plain": {"alpha": 1}}}, "unknown key of methods: plain: 'alpha'"),
        ({"stages": ["films"]}, "at least two names"),
        ({"stages": ["films", "films", "books"]}, "all different"),
        ({"orders": 7}, "between 1 and 6, got 7"),
        ({"orders": [["films", "songs"]]}, "list of lists of all stages"),
        ({"heads": "many"}, "heads must be 'one' or 'per-stage'"),
        ({"ood": ["x.parquet"]}, "ood is not of streams"),
        ({"num_train_epochs": [1, 3]}, "num_train_epochs is not of streams"),
        (
            {"rules": ["ood_mean >= 0.5"]},
            "rules: 'ood_mean >= 0.5' cannot be checked: there is no OOD set, only id/test, earlier/",
        ),
        (
            {"rules": ["earlier/flims >= 0.5"]},
            "there is no set earlier/flims, only id/test, earlier/films, earlier/songs",
        ),
        ({"rules": ["retained_worst >= 0.5"]}, "there is no retained set"),
        ({"rules": ["id/test >= learnt"]}, "rules: the rule 'id/test >= learnt' compares with what was learnt"),
        ({"rules": []}, "rules: rules is empty"),
        ({"rules": "missing.yaml"}, "the name of a file of them in .*, got 'missing.yaml'"),
        ({"rules": ["id/test > 0"], "when_broken": "stop"}, "when_broken must be 'roll_back' or 'alert', got 'stop'"),
        ({"when_broken": "alert"}, "when_broken is 'alert', but there are no rules"),
        ({"test": "test.parquet"}, "test must have {stage}"),
        ({"seeds": [0, 0]}, "seeds must be a list of different integers"),
        ({"sedes": [0]}, r"unknown key 'sedes' \(did you mean 'seeds'\?\)"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(tmp_path, changes, problem):
    with pytest.raises(ValueError, match=problem) as error:
        load(tmp_path, **changes)
    assert str(error.value).startswith(str(tmp_path / "trial.yaml"))


def test_the_command_says_what_is_wrong_in_a_line(tmp_path, capsys):
    assert main(["stream", str(tmp_path / "missing.yaml")]) == 1
    assert (
        capsys.readouterr().err
        == f"ftp-hf stream: {tmp_path / 'missing.yaml'} does not exist: name the YAML file of the config\n"
    )
