import re
import runpy
import statistics
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from huggingface_hub import ModelCard, ModelCardData
from peft import LoraConfig, get_peft_model
from transformers import BertForSequenceClassification, Trainer, TrainingArguments

from ftp_hf import FTPTrainer, FTPTrainingArguments, ModelCardMixin, RunSummary, data_facts
from ftp_hf.cards.card import END, START, eval_results_file, model_card, update_card, write_model_card
from ftp_hf.cards.picture import by_layer, draw_radii
from ftp_hf.common.figures import metric_named
from ftp_hf.runs.facts import BaseModel, Evaluation, OtherModel
from ftp_hf.runs.seeds import combine
from tests.support.markdown import cells, section
from tests.support.stand_ins import TOLD, stand_in
from tests.support.summaries import make_summary
from tests.support.trainers import arguments

ROOT = Path(__file__).parents[2]
CARDS = sorted(path.parent for path in ROOT.glob("model_cards/*/results.json"))
TOKEN = "hf_" + "s3cret" * 5


def full_summary():
    return combine(
        [make_summary(0), make_summary(1, shift=0.1)],
        {
            "plain fine-tuning": [make_summary(0, "plain", -0.1), make_summary(1, "plain", -0.2)],
            "pre-trained": [make_summary(0, "plain", 0.2, optimizer=None)],
        },
    )


def test_the_results_table_is_computed_from_the_results():
    rows = cells(section(model_card(full_summary()).text, "Results"))
    assert rows[0] == ["data", "**this model**", "pre-trained", "plain fine-tuning, 2 seeds", "FTP, 2 seeds"]
    assert rows[2:] == [
        ["ID test", "90.0", "110.0", "75.0 ± 7.1", "95.0 ± 7.1"],
        ["OOD sketch", "50.0", "70.0", "35.0 ± 7.1", "55.0 ± 7.1"],
        ["OOD cartoon", "70.0", "90.0", "55.0 ± 7.1", "75.0 ± 7.1"],
        ["**OOD mean**", "60.0", "80.0", "45.0 ± 7.1", "65.0 ± 7.1"],
        ["OOD mean lost", "20.0", "", "35.0 ± 7.1", "15.0 ± 7.1"],
    ]


def test_a_corruption_that_changes_nothing_is_left_out_of_the_mean():
    damaged = {"fog/1": 0.8, "fog/3": 0.7, "casing/1": 0.9, "casing/3": 0.9}
    results = [Evaluation(name, "corrupted", {"accuracy": {"0": value}}) for name, value in damaged.items()]
    rows = cells(section(model_card(make_summary(results=results)).text, "Results"))
    assert rows[2:] == [["corrupted mean (2 sets)", "75.0"]]


@pytest.mark.parametrize(("rate", "said"), [("0.1", True), ("0.01", False)])
def test_it_is_said_where_another_model_had_this_ones_rate(rate, said):
    optimizer = f"torch.optim.AdamW(lr={rate}, eps=1e-08)"
    text = model_card(make_summary(comparisons=[OtherModel("plain fine-tuning", [], optimizer)])).text
    whose = ", at this model's learning rate: another may suit it better" * said
    assert f"Plain fine-tuning was trained with `{optimizer}`{whose}." in text


def test_what_is_not_known_is_left_out():
    card = model_card(RunSummary("m", "plain"))
    assert re.findall(r"^#+ (.*)$", card.text, re.MULTILINE) == ["m", "Limits", "How to reproduce it"]
    assert card.data.to_dict() == {"library_name": "transformers"}
    for word in ("None", "More Information", "TODO", "{{", "unknown"):
        assert word not in card.content


def test_metadata_passes_the_hubs_parser_and_comes_back():
    card = model_card(full_summary())
    again = ModelCard(card.content)
    assert again.content == card.content
    assert ModelCardData(**again.data.to_dict()).to_dict() == card.data.to_dict()
    data = card.data.to_dict()
    assert data["base_model"] == "someone/encoder"
    assert data["base_model_relation"] == "finetune"
    assert data["datasets"] == ["someone/data"]
    assert data["tags"] == ["ftp", "robust-fine-tuning"]
    assert data["metrics"] == ["accuracy"]
    assert "license" not in data
    # ID and every OOD set, none merged away.
    assert [result["metrics"][0]["value"] for result in data["model-index"][0]["results"]] == [0.9, 0.5, 0.7]


def test_sets_that_share_a_name_are_not_merged():
    summary = make_summary()
    for data in summary.data[2:]:
        data.source, data.on_hub, data.config, data.split = "someone/shifts", True, "default", "test"
    assert len(model_card(summary).data.to_dict()["model-index"][0]["results"]) == 3
    assert len(ModelCard(model_card(summary).content).data.eval_results) == 3


def test_sets_of_two_kinds_may_have_one_name():
    summary = make_summary()
    shift, facts = summary.results[1], summary.data[2]
    shift.data = facts.name = "test"
    facts.source, facts.on_hub = "someone/shifts", True
    assert summary.value("test", kind="ood") == 0.5
    assert [summary.sizes(kind)["test"] for kind in ("id", "ood")] == [50, 60]
    found = {(each.dataset_type, each.metric_value) for each in model_card(summary).data.eval_results}
    assert found == {("someone/data", 0.9), ("someone/shifts", 0.5), ("cartoon", 0.7)}
    assert "id: someone/shifts" in eval_results_file(summary)


@pytest.mark.parametrize(("kind", "named"), [("LORA", "a LoRA"), ("ADALORA", "an AdaLoRA"), ("OSF", "an OSF")])
def test_an_adapter_is_named(kind, named):
    assert f"fine-tuned through {named} adapter" in str(model_card(make_summary(adapter=kind)))


def test_an_adapter_says_so():
    card = model_card(make_summary(adapter="LORA"))
    assert card.data.library_name == "peft"
    assert card.data.to_dict()["base_model_relation"] == "adapter"
    assert "meant to preserve" not in card.text
    assert 'PeftModel.from_pretrained(model, "model")' in card.text


def test_no_benefit_is_claimed_and_the_results_are_pointed_to_where_they_compare():
    aim = "This is meant to preserve the pre-trained model's robustness"
    assert f"{aim}; the results below say whether it did." in model_card(full_summary()).text
    assert f"{aim}." in model_card(make_summary()).text


def test_a_plain_card_tells_nothing_of_a_projection():
    settings = {"hyperparameters": {"seed": 0, "ftp_kappa": 0.5}, "defaults": {"ftp_radius_lr": 0.01}}
    text = model_card(make_summary(method="plain", **settings)).text
    assert "for text classification by plain fine-tuning." in text
    assert "ftp_" not in section(text, "Training")
    assert "`ftp_kappa`" in model_card(make_summary(**settings)).text


def test_the_kept_checkpoint_is_bold():
    rows = cells(section(model_card(make_summary()).text, "Training").partition("**Log**")[2])
    assert rows[2][0] == "**4**"
    assert rows[3][0] == "8"


def test_a_persons_words_stay():
    first = model_card(make_summary())
    edited = first.content.replace("# model\n", "# My model\n\nMine: 100 % \\1.\n") + "\nAnd a last word.\n"
    edited = edited.replace("---\n", "---\nlicense: mit\nco2: 3\n", 1).replace("- ftp\n", "- ftp\n- mine\n")
    updated = update_card(edited, model_card(make_summary(shift=0.05)))
    assert "# My model\n\nMine: 100 % \\1.\n" in updated.text
    assert updated.text.endswith("\nAnd a last word.\n")
    assert "| OOD sketch | 55.0 |" in updated.text
    assert "| OOD sketch | 50.0 |" not in updated.text
    assert updated.data.license == "mit"
    assert updated.data.to_dict()["co2"] == 3
    assert updated.data.tags == ["ftp", "mine", "robust-fine-tuning"]
    assert [result.metric_value for result in updated.data.eval_results] == pytest.approx([0.95, 0.55, 0.75])
    assert update_card(updated.content, model_card(make_summary(shift=0.05))).content == updated.content


def test_a_card_without_marks_is_kept_whole():
    updated = update_card("---\nlicense: mit\n---\n# Mine\n\nMy text.\n", model_card(make_summary()))
    assert updated.text.lstrip().startswith("# Mine\n\nMy text.\n")
    assert updated.text.count(START) == updated.text.count(END) == 1


@pytest.mark.parametrize("broken", [START, END])
def test_half_a_pair_of_marks_is_refused(broken):
    with pytest.raises(ValueError, match="only one of the marks"):
        update_card(f"---\nlicense: mit\n---\ntext {broken}\n", model_card(make_summary()))


def test_broken_metadata_is_refused():
    with pytest.raises(ValueError, match="cannot be read"):
        update_card("---\na: [\n---\ntext\n", model_card(make_summary()))


def test_results_of_others_stay():
    card = model_card(make_summary())
    card.data.eval_results[0].source_url = "https://example.org"
    card.data.eval_results[0].dataset_config = "theirs"
    merged = update_card(card.content, model_card(make_summary()))
    assert [result.source_url for result in merged.data.eval_results].count("https://example.org") == 1
    assert len(merged.data.eval_results) == 4


def test_nothing_of_an_earlier_run_stays_but_what_a_person_added(tmp_path):
    write_model_card(make_summary(), tmp_path)
    card = tmp_path / "README.md"
    theirs = {"- accuracy\n": "- accuracy\n- fairness\n", "- ftp\n": "- ftp\n- mine\n", "# model\n": "# My model\n"}
    edited = card.read_text().replace("---\n", "---\nlicense: mit\n", 1)
    for before, after in theirs.items():
        assert before in edited
        edited = edited.replace(before, after)
    card.write_text(edited)
    (tmp_path / ".eval_results" / "theirs.yaml").write_text("[]")

    write_model_card(make_summary(results=[], base_model=BaseModel("local-encoder")), tmp_path)
    found = ModelCard.load(card)
    assert "This model was not evaluated." in found.text
    assert found.data.to_dict().keys().isdisjoint({"model-index", "model_name", "base_model", "base_model_relation"})
    assert (found.data.license, found.data.metrics) == ("mit", ["fairness"])
    assert "mine" in found.data.tags
    assert "# My model\n" in found.text
    assert [path.name for path in (tmp_path / ".eval_results").iterdir()] == ["theirs.yaml"]


def test_results_of_others_stay_where_there_are_none():
    card = model_card(make_summary())
    card.data.eval_results[0].source_url = "https://example.org"
    merged = update_card(card.content, model_card(make_summary(results=[])))
    assert [result.source_url for result in merged.data.eval_results] == ["https://example.org"]
    assert merged.data.to_dict()["model-index"][0]["name"] == "model"


def test_a_base_model_that_a_person_named_stays():
    local = model_card(make_summary(base_model=BaseModel("local-encoder")))
    named = local.content.replace("---\n", "---\nbase_model: someone/encoder\n", 1)
    assert update_card(named, local).data.base_model == "someone/encoder"
    assert update_card(named, model_card(make_summary())).data.to_dict()["base_model_relation"] == "finetune"


def test_eval_results_of_data_on_the_hub():
    assert "id: someone/data" in eval_results_file(make_summary())
    assert eval_results_file(make_summary(data=[])) is None


def test_picture(tmp_path, monkeypatch):
    summary = make_summary()
    assert draw_radii(summary, tmp_path).stat().st_size > 1000
    write_model_card(summary, tmp_path)
    assert "(radii.png)" in (tmp_path / "README.md").read_text()
    # Without matplotlib, the card has no picture, and no earlier one.
    monkeypatch.setattr("ftp_hf.cards.picture.find_spec", lambda _: None)
    assert draw_radii(summary, tmp_path) is None
    write_model_card(summary, tmp_path)
    assert "radii.png" not in (tmp_path / "README.md").read_text()


def test_the_picture_tells_an_encoder_from_a_decoder():
    layers = by_layer(RunSummary.load(ROOT / "model_cards" / "spoken-digits-whisper-ftp"))
    stacks = [[stack, *(f"{stack}.layers.{number}" for number in range(4))] for stack in ("encoder", "decoder")]
    assert list(layers) == [*stacks[0], *stacks[1]]
    assert sum(map(len, layers.values())) == 166


class PlainTrainer(ModelCardMixin, Trainer):
    pass


def train(checkpoint, output_dir, *, adapter=False, trainer_class=FTPTrainer, **options):
    dataset = Dataset.from_dict({"input_ids": [[5, 6, 7], [8, 9, 10]] * 8, "labels": [0, 1] * 8})
    model = BertForSequenceClassification.from_pretrained(checkpoint, num_labels=2)
    if adapter:
        model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))
        options["ftp_exclude_new"] = False
    args_class = FTPTrainingArguments if trainer_class is FTPTrainer else TrainingArguments
    args = arguments(output_dir, args_class, **{"max_steps": 4, "logging_steps": 1, "hub_token": TOKEN, **options})
    trainer = trainer_class(model, args, train_dataset=dataset, eval_dataset=dataset)
    trainer.train()
    return trainer, dataset


def test_the_card_tells_what_happened(checkpoint, tmp_path):
    trainer, dataset = train(
        checkpoint, tmp_path, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2,
        load_best_model_at_end=True, learning_rate=0.02,
    )  # fmt: skip
    metrics = trainer.evaluate(dataset, metric_key_prefix="eval_shift")
    trainer.note_evaluation(metrics, data_facts(dataset, "shift", "ood"))
    trainer.create_model_card(license="mit", tags="tiny")
    summary = RunSummary.load(tmp_path)
    assert summary.kept_step == trainer.state.best_global_step
    assert summary.value("shift", "loss") == metrics["eval_shift_loss"]
    assert summary.optimizer.startswith("torch.optim.AdamW(lr=0.02, ")
    assert summary.projection.excluded == ["classifier.weight", "classifier.bias"]
    saved = next(entry for entry in trainer.state.log_history if entry["step"] == summary.kept_step and "loss" in entry)
    radii = [value.radius for value in summary.projection.radii.values()]
    assert max(radii) == saved["ftp_radius_max"]
    assert statistics.median(radii) == saved["ftp_radius_median"]
    assert [row.step for row in summary.log] == [1, 2, 3, 4]
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "mit"
    assert card.data.tags == ["ftp", "robust-fine-tuning", "tiny"]
    assert card.data.base_model is None
    assert "`tiny-encoder`" in card.text
    assert "learning_rate` | `0.02`" in card.text


def test_results_of_the_log_serve_where_none_were_noted(checkpoint, tmp_path):
    trainer, _ = train(checkpoint, tmp_path, eval_strategy="steps", eval_steps=2)
    assert trainer.run_summary().results == [
        Evaluation("validation", "validation", {"loss": {"42": trainer.state.log_history[-2]["eval_loss"]}})
    ]


def test_a_plain_trainer_has_a_card_too(checkpoint, tmp_path):
    trainer, _ = train(checkpoint, tmp_path, trainer_class=PlainTrainer)
    trainer.create_model_card()
    assert RunSummary.load(tmp_path).method == "plain"
    assert "Fast Trainable Projection" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("adapter", [False, True], ids=["dense", "adapter"])
def test_nothing_secret_is_pushed(checkpoint, tmp_path, adapter):
    trainer, _ = train(checkpoint, tmp_path / "run", adapter=adapter, save_strategy="steps", save_steps=2)
    trainer.save_model()
    trainer.save_state()
    trainer.create_model_card()
    trainer.save_model()  # PEFT writes into the card that it finds
    trainer.create_model_card()
    for file in (tmp_path / "run").glob("*"):
        # PEFT's own record of the base model is what the adapter is loaded by.
        if file.is_file() and file.name != "adapter_config.json":
            content = file.read_bytes()
            assert TOKEN.encode() not in content, file
            assert str(checkpoint.parent).encode() not in content, file
            assert str(tmp_path).encode() not in content, file
    assert (trainer.args.hub_token, trainer.args.output_dir) == (TOKEN, str(tmp_path / "run"))
    saved = torch.load(tmp_path / "run" / "training_args.bin", weights_only=False)
    assert type(saved) is FTPTrainingArguments
    assert (saved.hub_token, saved.output_dir, saved.max_steps) == (None, "run", 4)
    checkpoint = torch.load(tmp_path / "run" / "checkpoint-4" / "training_args.bin", weights_only=False)
    assert checkpoint.hub_token is None


def test_a_draft_gives_way(checkpoint, tmp_path):
    trainer, _ = train(checkpoint, tmp_path, adapter=True)
    trainer.save_model()
    assert "More Information Needed" in (tmp_path / "README.md").read_text()
    trainer.create_model_card()
    assert "More Information Needed" not in (tmp_path / "README.md").read_text()
    assert ModelCard.load(tmp_path / "README.md").data.library_name == "peft"


def test_unknown_kind_is_refused(checkpoint, tmp_path):
    trainer, dataset = train(checkpoint, tmp_path, max_steps=1)
    with pytest.raises(ValueError, match="'far' is of kind 'train'"):
        trainer.note_evaluation({}, data_facts(dataset, "far", "train"))


def figures(summary):
    """Every figure that can be had from the results as it is printed, by itself or over sets and seeds."""
    found = set()
    before = {} if summary.pretrained is None else means_over(summary.pretrained.results)
    for results in (summary.results, *(other.results for other in summary.comparisons)):
        by_metric = [(name, [*values.values()]) for result in results for name, values in result.metrics.items()]
        by_metric += means_over(results, "corrupted").items()
        for metric, values in means_over(results).items():
            by_metric.append((metric, values))
            if metric in before:
                start, sign = statistics.fmean(before[metric]), metric_named(metric).sign
                by_metric.append((metric, [sign * (start - value) for value in values]))
        for metric, values in by_metric:
            means, spreads = [*values, statistics.fmean(values)], [statistics.stdev(values)] if len(values) > 1 else []
            if metric_named(metric).is_share:
                found |= {f"{100 * number:.1f}" for number in (*means, *spreads)}
            else:
                found |= {f"{mean:.4g}" for mean in means} | {f"{spread:.2g}" for spread in spreads}
    return found


def means_over(results, kind="ood"):
    """The mean over the sets of a kind of each seed, by metric."""
    of_kind = [result.metrics for result in results if result.kind == kind]
    by_set = {metric: [metrics[metric] for metrics in of_kind] for metric in (of_kind[0] if of_kind else ())}
    return {
        metric: [statistics.fmean(values[seed] for values in sets) for seed in sets[0]]
        for metric, sets in by_set.items()
    }


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_published_cards(folder, tmp_path, capsys):
    summary = RunSummary.load(folder)
    published = (folder / "README.md").read_text()
    picture = "radii.png" if (folder / "radii.png").is_file() else None
    card = model_card(summary, picture=picture)
    assert card.content.partition(START)[2] == published.partition(START)[2]
    assert update_card(published, card).content == published
    named, known = ModelCard(published).data.to_dict(), card.data.to_dict()
    assert {**named, **known} == named
    assert named.keys() - known.keys() <= {"base_model", "base_model_relation", "license"}, "what a person can name"
    assert (picture is not None) == (summary.method == "ftp")
    assert ModelCard(published).content == published
    theirs = published.partition(f"# {folder.name}\n")[2].partition(START)[0]
    sources = [
        section(published, "Results"),
        *((folder / link).read_text() for link in re.findall(r"\]\((.*?)\)", theirs)),
    ]
    assert all(any(figure in source for source in sources) for figure in re.findall(r"\d+\.\d+", theirs))
    shown = {
        figure
        for row in cells(section(published, "Results"))
        if row[0] != "data" and not set(row[0]) <= set("-: ")
        for cell in row[1:]
        for figure in cell.replace("±", " ").split()
    }
    assert shown
    assert shown <= figures(summary), "and no others"
    values = [result.metric_value for result in ModelCard(published).data.eval_results]
    assert all(repr(value) in (folder / "results.json").read_text() for value in values)
    assert f"({folder.name}/README.md) | {summary.method} | " in (folder.parent / "README.md").read_text()
    assert summary.headline() in (folder.parent / "README.md").read_text()

    # The snippet runs by itself, with a model of the same kind in the place of the published one.
    stand_in(summary, tmp_path)
    snippet = re.search(r"```python\n(.*?)```", published, re.DOTALL)[1]
    script = tmp_path / "snippet.py"
    script.write_text(snippet.replace(f'"{folder.name}"', repr(str(tmp_path))))
    runpy.run_path(str(script))
    assert TOLD[summary.task] in capsys.readouterr().out


def test_there_are_cards():
    assert CARDS
