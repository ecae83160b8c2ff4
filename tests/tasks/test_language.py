"""Fine-tuning of language models: what counts of a row, and figures as one computes them by hand."""

import math

import pytest
import torch
from datasets import ClassLabel, Dataset
from torch.nn.functional import cross_entropy
from transformers import EvalPrediction, GPT2LMHeadModel

pytest.importorskip("trl")

from ftp_hf.common.figures import metric_named
from ftp_hf.function_distance import function_distance
from ftp_hf.tasks.generation import exact_match, final_answer
from ftp_hf.tasks.language import LanguageOptions, LanguageTask
from ftp_hf.tasks.likelihood import choice_accuracy, loss_per_token
from tests.support.models import tiny_gpt2_config
from tests.support.tiny_language import WORDS, save_llama
from tests.support.trainers import arguments

ANSWERS = Dataset.from_dict({"question": ["one", "two and three"], "answer": ["red <<2>> is", "four"]})
CHOICES = Dataset.from_dict(
    {
        "question": ["one", "two"],
        "choices": [["red", "blue and blue", "is"], ["four", "one two three"]],
        "answer": [1, 0],
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_llama(tmp_path_factory.mktemp("llama")))


@pytest.fixture
def task(folder):
    return LanguageTask(folder, LanguageOptions(max_tokens=16, remove_from_answers="<<.*?>> ?"))


def trainer_of(task, folder, **options):
    args = arguments(folder, task.arguments_class, per_device_eval_batch_size=2, **task.arguments(), **options)
    model = task.load_model()
    return task.trainer_class(model=model, args=args, eval_dataset=task.prepare(ANSWERS), **task.trainer_options(model))


def words(task, row):
    counted = [token for token in row["labels"] if token != -100]
    return task.processor.decode(row["input_ids"]), task.processor.decode(counted)


def log_likelihood(model, task, prompt, answer):
    """Of an answer's tokens after a prompt, one by one."""
    given, tokens = task.processor(prompt)["input_ids"], task.processor(answer)["input_ids"]
    logits = model(torch.tensor([given + tokens])).logits[0].double().log_softmax(dim=-1)
    return sum(logits[len(given) - 1 + place, token].item() for place, token in enumerate(tokens)), len(tokens)


def test_the_answer_and_its_end_count(task):
    rows = [words(task, row) for row in task.prepare(ANSWERS, augment=True)]
    assert rows[0] == ("Question : one Answer : red is <eos>", "red is <eos>")
    assert rows[1] == ("Question : two and three Answer : four <eos>", "four <eos>")


def test_longest_rows_come_first_where_nothing_is_trained(task):
    lengths = [len(row["input_ids"]) for row in task.prepare(ANSWERS)]
    assert lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "one and two"}, ("one and two", "one and two")),
        ({"instruction": "one", "input": "", "output": "two"}, ("Question : one Answer : two <eos>", "two <eos>")),
        (
            {"instruction": "one", "input": "red", "output": "two"},
            ("Question : one red Answer : two <eos>", "two <eos>"),
        ),
        ({"instruction": "one", "output": "two"}, ("Question : one Answer : two <eos>", "two <eos>")),
    ],
)
def test_a_row_is_read_as_its_columns_say(task, row, expected):
    dataset = Dataset.from_list([row])
    task.check("few", dataset)
    assert words(task, task.prepare(dataset)[0]) == expected


def test_rows_are_cut(folder):
    task = LanguageTask(folder, LanguageOptions(max_tokens=7))
    assert words(task, task.prepare(ANSWERS.select([1]))[0]) == ("Question : two and three Answer :", "")
    [batch] = task.batches(CHOICES.select([0]), 8)
    assert batch["input_ids"].shape == (3, 7)
    assert task.processor.decode(batch["input_ids"][0]) == ": one Answer : blue and blue", "the choice is kept"


def test_rows_of_which_nothing_is_left_are_told_and_a_set_of_such_is_refused(folder, caplog):
    task = LanguageTask(folder, LanguageOptions(max_tokens=7))
    task.check("few", ANSWERS)
    assert caplog.messages == [
        "1 of 2 rows of few have no token that counts within max_tokens, 7: nothing is learnt or measured from them"
    ]
    with pytest.raises(
        ValueError, match="no row of few has a token that counts within max_tokens, 7: raise it, or leave"
    ):
        task.check("few", ANSWERS.select([1]))
    with pytest.raises(ValueError, match="no row of blank has a token that counts"):
        task.check("blank", Dataset.from_dict({"text": ["", " "]}))


def test_blank_lines_are_left_out(task, tmp_path, caplog):
    texts = ["one and two", "three is four and five"]
    blank = Dataset.from_dict({"text": [texts[0], "", " ", texts[1], ""]})
    task.check("blank", blank)
    assert "3 of 5 rows of blank have no token that counts" in caplog.text
    assert task.prepare(blank, augment=True)["input_ids"][:] == task.processor(texts)["input_ids"]
    trainer = trainer_of(task, tmp_path)
    losses = [task.measure(trainer, each)["eval_loss"] for each in (blank, Dataset.from_dict({"text": texts}))]
    assert losses[0] == losses[1]
    assert [batch["input_ids"].shape[0] for batch in task.batches(blank, 2)] == [2]


def test_prompts_behind_which_no_answer_has_places_are_refused(folder, tmp_path):
    processor = LanguageTask(folder).processor
    GPT2LMHeadModel(tiny_gpt2_config(n_positions=24, vocab_size=len(processor))).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    long = Dataset.from_dict({"question": ["one", "one and " * 6], "answer": ["two", "two"]})
    message = (
        r"^row 1 of few has a prompt of 16 tokens, and with max_new_tokens, 9, .* places for, 24: lower max_new_tokens"
    )
    with pytest.raises(ValueError, match=message):
        LanguageTask(str(tmp_path), LanguageOptions(generated_answers=2, max_new_tokens=9)).check("few", long)
    LanguageTask(str(tmp_path), LanguageOptions(max_new_tokens=9)).check("few", long)
    LanguageTask(str(tmp_path), LanguageOptions(generated_answers=2, max_new_tokens=9)).check_training("few", long)
    task = LanguageTask(str(tmp_path), LanguageOptions(generated_answers=2, max_new_tokens=8))
    task.check("few", long)
    assert "eval_exact_match" in task.measure(trainer_of(task, tmp_path), long)


def test_batches_of_long_rows_are_small(folder):
    task = LanguageTask(folder, LanguageOptions(max_tokens=1000))
    texts = Dataset.from_dict({"text": ["one " * 900, "two " * 10, "three " * 700, "four"]})
    assert [batch["input_ids"].shape for batch in task.batches(texts, 16)] == [(2, 900), (2, 10)]


def test_other_columns_are_refused(task):
    with pytest.raises(ValueError, match=r"few has the columns \['title'\]; expected question and answer"):
        task.check("few", Dataset.from_dict({"title": ["one"]}))
    with pytest.raises(ValueError, match=r"multiple choice .* tests what is retained"):
        task.prepare(CHOICES)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"question": ["one", None], "answer": ["two", "six"]}, "row 1 of few has no text in 'question', but None"),
        ({"question": ["one", "two"], "answer": ["two", None]}, "row 1 of few has no text in 'answer', but None"),
        ({"question": ["one"], "answer": [2]}, "row 0 of few has no text in 'answer', but 2"),
        ({"instruction": ["one"], "output": [None]}, "row 0 of few has no text in 'output', but None"),
        ({"instruction": [None], "output": ["one"]}, "row 0 of few has no text in 'instruction', but None"),
        ({"text": ["one", None]}, "row 1 of few has no text in 'text', but None"),
        (
            {"question": ["one", None], "choices": [["red", "blue"]] * 2, "answer": [0, 1]},
            "row 1 of few has no text in 'question', but None",
        ),
    ],
)
def test_empty_cells_are_refused(task, rows, message):
    with pytest.raises(ValueError, match=message):
        task.check("few", Dataset.from_dict(rows))


def test_an_instruction_may_have_no_input(task):
    task.check("few", Dataset.from_dict({"instruction": ["one"] * 2, "input": ["red", None], "output": ["two"] * 2}))


@pytest.mark.parametrize(
    ("answers", "row", "given"),
    [
        (["1", "0"], 0, "'1'"),
        (["B", "A"], 0, "'B'"),
        ([2, 2], 1, "2"),
        ([1, -1], 1, "-1"),
        ([True, False], 0, "True"),
        ([1.0, 0.5], 0, r"1\.0"),
        ([1, None], 1, "None"),
    ],
)
def test_answers_that_are_no_positions_of_choices_are_refused(task, answers, row, given):
    data = CHOICES.remove_columns("answer").add_column("answer", answers)
    with pytest.raises(
        ValueError, match=rf"^row {row} of few has {given} in 'answer': .* [32] choices, a whole number counted from 0$"
    ):
        task.check("few", data)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([["red"], []], r"row 1 of few has \[\] in 'choices': it must be texts, none of them empty"),
        ([["red"], None], "row 1 of few has None in 'choices'"),
        ([["red", ""], ["four"]], r"row 0 of few has \['red', ''\] in 'choices'"),
        ([["red"], ["four", None]], r"row 1 of few has \['four', None\] in 'choices'"),
        ([[1, 2], [3, 4]], r"row 0 of few has \[1, 2\] in 'choices'"),
        ([{"text": ["red"]}, {"text": ["four"]}], "column 'choices' of few must hold lists of texts, not {'text'"),
    ],
)
def test_choices_are_texts(task, choices, message):
    data = Dataset.from_dict({"question": ["one", "two"], "choices": choices, "answer": [0, 0]})
    with pytest.raises(ValueError, match=message):
        task.check("few", data)


def test_choices_want_a_question_and_an_answer(task):
    data = Dataset.from_dict({"instruction": ["one"], "output": ["red"], "choices": [["red", "blue"]], "answer": [0]})
    with pytest.raises(ValueError, match=r"no column 'question' in few .* name it in prompt_column"):
        task.check("few", data)


def test_positions_of_choices_may_have_names(task):
    task.check("few", CHOICES)
    task.check("few", CHOICES.cast_column("answer", ClassLabel(names=["A", "B"])))


@pytest.mark.parametrize("template", ["{prompt}{answer}.", "Answer: {answer}"])
def test_a_template_ends_with_the_answer(folder, template):
    with pytest.raises(ValueError, match=r"template must have \{prompt\} and end with \{answer\}"):
        LanguageTask(folder, LanguageOptions(template=template))


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_the_loss_is_that_of_every_token(task, tmp_path, strategy):
    trainer = trainer_of(task, tmp_path, train_sampling_strategy=strategy)
    found = [
        log_likelihood(trainer.model, task, "Question: one\nAnswer:", "red is <eos>"),
        log_likelihood(trainer.model, task, "Question: two and three\nAnswer:", "four <eos>"),
    ]
    expected = -sum(sum_ for sum_, _ in found) / sum(count for _, count in found)
    assert [count for _, count in found] == [3, 2], "so that the mean of rows is another one"
    assert task.measure(trainer, ANSWERS)["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert metric_named("loss").less_is_better


def test_what_a_batch_is_padded_with_does_not_count(task):
    [batch] = task.batches(ANSWERS, 2)
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()
    assert (batch["attention_mask"] == 0).any()


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_choices_are_compared_by_their_likelihood(task, tmp_path, strategy):
    trainer = trainer_of(task, tmp_path, train_sampling_strategy=strategy)
    norm, plain = [], []
    for row in CHOICES:
        prompt = f"Question: {row['question']}\nAnswer:"
        sums = [log_likelihood(trainer.model, task, prompt, choice)[0] for choice in row["choices"]]
        normalised = [found / len(choice) for found, choice in zip(sums, row["choices"], strict=True)]
        norm.append(normalised.index(max(normalised)) == row["answer"])
        plain.append(sums.index(max(sums)) == row["answer"])
    metrics = task.measure(trainer, CHOICES)
    assert metrics == {"eval_acc_norm": sum(norm) / 2, "eval_acc": sum(plain) / 2}
    assert {f"eval_{name}" for name in task.measured_on(CHOICES)} == metrics.keys()
    assert not metric_named("acc_norm").less_is_better
    assert metric_named("acc_norm").is_share


def test_characters_and_not_tokens_normalise():
    # One question: −4/2, −6/4 and −5/1; the other: two choices that are alike, of which the first is taken.
    accuracy = choice_accuracy([-4.0, -6.0, -5.0, -1.0, -1.0], [["ab", "äöüß", "c"], ["x", "x"]], [1, 1])
    assert accuracy == {"acc_norm": 0.5, "acc": 0.0}


@pytest.mark.parametrize("lost", [math.nan, -math.inf])
def test_a_likelihood_that_is_not_finite_leaves_no_accuracy(lost):
    accuracy = choice_accuracy([-4.0, lost, -1.0, -2.0], [["ab", "c"], ["x", "y"]], [0, 0])
    assert accuracy.keys() == {"acc_norm", "acc"}
    assert all(map(math.isnan, accuracy.values()))


def test_a_loss_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no row has a token of an answer: raise max_tokens"):
        loss_per_token(EvalPrediction(predictions=torch.zeros(2).numpy(), label_ids=torch.zeros(2).numpy()))


def test_prompts_are_corrupted_and_answers_are_not(task):
    upper = task.prepare(ANSWERS.select([1]), corrupt=lambda text: text.replace("two", "six"))
    assert words(task, upper[0]) == ("Question : six and three Answer : four <eos>", "four <eos>")


def test_the_distance_is_that_of_the_answers_tokens(task):
    model, other = task.load_model(), task.load_model()
    with torch.no_grad():
        other.lm_head.weight.mul_(1.5)
    [batch] = task.batches(ANSWERS, 2)
    expected, count = 0.0, 0
    for tokens, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        before, after = (each(tokens[None]).logits[0].log_softmax(dim=-1) for each in (model, other))
        for place in range(1, len(labels)):
            if labels[place] != -100:
                expected += (before[place - 1].exp() * (before[place - 1] - after[place - 1])).sum().item()
                count += 1
    assert count == 5
    found = function_distance(other, model, [batch], task.logits)
    assert found == pytest.approx(expected / count, rel=1e-4)
    assert function_distance(model, model, [batch], task.logits) == 0


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("so 2 + 2 = 4\n#### 1,234", "1234"),
        ("#### $5.\nQuestion: what", "5"),
        ("#### 18.$", "18"),
        ("#### -3", "-3"),
        (f"#### {10**30 + 1}", str(10**30 + 1)),
        ("#### $.50.", "0.5"),
        ("#### 1,800.00", "1800"),
        ("#### -0.0", "0"),
        ("#### 1e999999999", "1e999999999"),
        ("#### two.", "two"),
        (" red is one ", "red is one"),
        ("####", ""),
    ],
)
def test_the_final_answer(text, final):
    assert final_answer(text) == final


def test_generated_answers_are_compared(task, tmp_path):
    trainer = trainer_of(task, tmp_path)
    prompt = "Question: two and three\nAnswer: "
    given = torch.tensor([task.processor(prompt.rstrip())["input_ids"]])
    said = []
    for _ in range(3):
        token = trainer.model(torch.cat([given, torch.tensor([said], dtype=torch.long)], dim=1)).logits[0, -1].argmax()
        if token == task.processor.eos_token_id:
            break
        said.append(token.item())
    answer = task.processor.decode(said, skip_special_tokens=True)
    # Prompts of other lengths in its batch change nothing.
    pairs = [(prompt, answer), ("Question: one\nAnswer: ", "nothing of that kind")]
    assert exact_match(trainer, task.processor, pairs, max_new_tokens=3) == 0.5
    task.options.generated_answers, task.options.max_new_tokens = 1, 3
    assert task.measure(trainer, ANSWERS)["eval_exact_match"] == 0.0
    assert task.measured_on(ANSWERS) == ["loss", "exact_match"]


def test_trl_trains_on_rows_as_they_are(task, tmp_path):
    args = arguments(tmp_path, task.arguments_class, max_steps=1, per_device_train_batch_size=2, **task.arguments())
    model, rows = task.load_model(), task.prepare(ANSWERS, augment=True)
    batch = task.collator([rows[0], rows[1]])
    logits, labels = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits, batch["labels"]
    expected = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100).item()
    trainer = task.trainer_class(model=model, args=args, train_dataset=rows, **task.trainer_options(model))
    assert trainer.train_dataset is rows
    assert trainer.train().training_loss == pytest.approx(expected, rel=1e-5)
    assert len(WORDS) == model.config.vocab_size


@pytest.mark.parametrize("asked", [{}, {"bf16": True}, {"fp16": True}])
def test_mixed_precision_has_to_be_asked_for(task, tmp_path, asked):
    args = task.arguments_class(str(tmp_path), use_cpu=True, **task.arguments(), **asked)
    assert (args.bf16, args.fp16) == (asked.get("bf16", False), asked.get("fp16", False))
