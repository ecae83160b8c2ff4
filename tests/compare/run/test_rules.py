"""Rules that a config has, or a file beside it."""

import pytest

from ftp_hf.compare.run import rules as rules_module
from ftp_hf.compare.run.comparison import rehearse
from ftp_hf.compare.run.config import ComparisonConfig
from ftp_hf.compare.run.rules import read_rules, rules_in_file, rules_without_figures
from ftp_hf.runs.rules import parse_rules
from tests.support.tiny_data import image_config, write_config


def test_rules_of_a_file_are_texts(tmp_path):
    (tmp_path / "rules.yaml").write_text("rules: ['id/test:f1  >=  0.8', validation >= 0.5]")
    assert rules_in_file(tmp_path, "rules.yaml") == ["id/test:f1 >= 0.8", "validation >= 0.5"]
    (tmp_path / "f1.yaml").write_text("metric: f1\nrules: [id/test >= 0.8]")
    with pytest.raises(
        ValueError, match=r"f1\.yaml names a metric, but the config has its own: write it into the rules"
    ):
        rules_in_file(tmp_path, "f1.yaml")
    with pytest.raises(ValueError, match=r"name of a file of them in .*, got 'other.yaml'"):
        rules_in_file(tmp_path, "other.yaml")


def test_all_that_is_about_other_sets_is_said_at_once():
    with pytest.raises(ValueError, match="rules: 'ood_mean > 0' cannot be checked: there is no OOD set") as error:
        read_rules(["ood_mean > 0", "id/test > 0", "retained/x > 0"], ["id/test"])
    assert error.value.__notes__ == [
        "rules: 'retained/x > 0' cannot be checked: there is no set retained/x, only id/test"
    ]
    with pytest.raises(ValueError, match="rules: rules must be a list of texts"):
        read_rules(7, ["id/test"])


def test_of_a_new_head_nothing_was_known_before(monkeypatch):
    rules = parse_rules(["id/test >= 0.5", "id/test >= pretrained"])
    monkeypatch.setattr(rules_module, "new_parameters", lambda model: model)
    (problem,) = rules_without_figures(rules, lambda: {"head"})
    assert problem.startswith("rules: 'id/test >= pretrained' cannot be checked: heads are new")
    assert rules_without_figures(rules, set) == []
    assert rules_without_figures(rules[:1], lambda: pytest.fail("the model is not needed")) == []


def test_rules_that_no_model_could_be_held_to_are_refused_before_training(images, tmp_path):
    rules = [
        "id/test >= 95",
        "id/test:f1 >= 0.5",
        "kl/ood <= 0.9",
        "validation:hidden_change <= 1",
        "ood_mean:acuracy >= 0.5",
        "id/test:loss >= 0",
        "hidden_change/ood/pale <= 9",
    ]
    known = "accuracy, balanced_accuracy, loss"
    config = ComparisonConfig.load(write_config(tmp_path, image_config(images, methods=["plain"], rules=rules)))
    with pytest.raises(ValueError, match=r"'id/test >= 95' cannot be checked: .* write 0\.95") as error:
        rehearse(config)
    assert error.value.__notes__ == [
        f"rules: 'id/test:f1 >= 0.5' cannot be checked: the model has no f1 on id/test, only {known}, hidden_change",
        f"rules: 'kl/ood <= 0.9' cannot be checked: the model has no kl on ood/pale, only {known}, hidden_change",
        f"rules: 'validation:hidden_change <= 1' cannot be checked: the model has no hidden_change on validation, only {known}",
        f"rules: 'ood_mean:acuracy >= 0.5' cannot be checked: the model has no acuracy on ood/pale, only {known}, hidden_change",
    ]
