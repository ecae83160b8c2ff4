"""Images whose left half is sky and whose right half is road, in masks with a stripe that is ignored."""

import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, concatenate_datasets
from PIL import Image as Pictures
from transformers import EvalPrediction, MobileNetV2ForSemanticSegmentation, TrainingArguments

from ftp_hf.compare import ComparisonConfig
from ftp_hf.compare.run.data import RunData
from ftp_hf.corruptions import corruption
from ftp_hf.function_distance import function_distance, hidden_change
from ftp_hf.pretrained.origin import new_parameters
from ftp_hf.tasks.pixels import SegmentationTrainer, mask_indices, pixel_counts
from ftp_hf.tasks.segmentation import SegmentationOptions, SegmentationTask
from ftp_hf.tasks.specs import DatasetSpec
from ftp_hf.trainer.plain import plain_trainer
from tests.support.equal import assert_equal
from tests.support.models import save_mobilenet
from tests.support.task_comparisons import compare_whole_and_interrupted, save_sets, task_config
from tests.support.tiny_data import write_config

CLASSES = ["sky", "road", "car"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_mobilenet(tmp_path_factory.mktemp("mobilenet"))


@pytest.fixture
def task(folder):
    return make_task(folder)


def make_task(folder, **options):
    options = {"classes": CLASSES, "ignore_label": 9, "image_width": 32, "image_height": 16, **options}
    return SegmentationTask(str(folder), SegmentationOptions(**options))


def make_data(rows=3, mask=None):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 8:] = 255
    if mask is None:
        mask = np.zeros((8, 16), np.uint8)
        mask[:, 8:] = 1
        mask[0] = 9
    features = Features({"image": Image(), "mask": Image()})
    pictures = {"image": [Pictures.fromarray(pixels)] * rows, "mask": [Pictures.fromarray(mask)] * rows}
    return Dataset.from_dict(pictures, features)


def test_images_and_masks_come_to_one_size(task):
    row = task.prepare(make_data())[0]
    assert row["pixel_values"].shape == (3, 16, 32)
    expected = torch.zeros(16, 32, dtype=torch.int64)
    expected[:, 16:], expected[:2] = 1, 255
    assert torch.equal(row["labels"], expected), "by the nearest pixel, and what is ignored is 255 for the loss"
    model = task.load_model()
    assert model.config.id2label == {0: "sky", 1: "road", 2: "car"}
    batch = task.collator([row, row])
    assert model(**batch).logits.shape == (2, 3, 2, 4)
    assert model(**batch).loss.isfinite()


@pytest.mark.parametrize(
    ("options", "size"), [({"image_height": None}, (32, 32)), ({"image_width": None, "image_height": None}, (256, 256))]
)
def test_one_side_is_a_square_and_none_the_image_processor_s(folder, options, size):
    assert make_task(folder, **options).size == size


def test_masks_are_mirrored_with_their_images(folder, monkeypatch):
    monkeypatch.setattr("random.random", lambda: 0.1)
    task, data = make_task(folder, random_flip=True), make_data()
    straight, mirrored = task.prepare(data)[0], task.prepare(data, augment=True)[0]
    assert not torch.equal(straight["labels"], mirrored["labels"])
    for key in ("labels", "pixel_values"):
        assert torch.equal(mirrored[key], straight[key].flip(-1)), key


def test_corruptions_leave_masks_alone(task):
    data = make_data()
    corrupt, row = corruption("gaussian_noise", 5), task.prepare(data)[0]
    corrupted = task.prepare(data, corrupt=corrupt)[0]
    assert torch.equal(corrupted["labels"], row["labels"])
    assert not torch.equal(corrupted["pixel_values"], row["pixel_values"])
    assert "zoom_blur" not in task.corruptions, "it moves things away from the centre"


def test_what_is_corrupted_is_of_the_size_that_the_model_sees(task):
    sizes = []
    task.prepare(make_data(1), corrupt=lambda image: sizes.append(image.size) or image)[0]
    assert sizes == [task.size]


def test_the_loss_passes_over_what_is_ignored_whatever_the_checkpoint_passed_over(tmp_path):
    task = make_task(save_mobilenet(tmp_path, semantic_loss_ignore_index=0))
    batch, model = task.collator([task.prepare(make_data())[0]] * 2), task.load_model().eval()
    output = model(**batch)
    logits = torch.nn.functional.interpolate(output.logits, (16, 32), mode="bilinear")
    expected = torch.nn.functional.cross_entropy(logits, batch["labels"], ignore_index=255)
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_logits_are_enlarged_as_the_losses_of_transformers_do():
    # At the centers of the six pixels the second logit has come 0, 0, 1/3, 2/3, 1 and 1 of the way from -1 to 9.
    logits, labels = torch.tensor([[[[0.0, 0.0]], [[-1.0, 9.0]]]]), torch.tensor([[[0, 0, 1, 1, 1, 1]]])
    (answers,), _ = pixel_counts(logits, labels)
    assert answers.tolist() == [[2, 4], [2, 4]], "right, and predicted"


def test_metrics_are_those_computed_by_hand(task):
    labels = torch.tensor([[[0, 0, 1, 255]], [[0, 0, 0, 255]]])
    answers = torch.tensor([[[0, 1, 1, 2]], [[0, 0, 0, 2]]])
    logits = torch.nn.functional.one_hot(answers, 3).movedim(-1, 1).float()
    predicted, labelled = pixel_counts(logits, labels)
    assert predicted.tolist() == [[[1, 1, 0], [1, 2, 0]], [[3, 0, 0], [3, 0, 0]]]
    assert labelled.tolist() == [[2, 1, 0], [3, 0, 0]]
    scores = task.compute_metrics(EvalPrediction(predicted.numpy(), labelled.numpy()))
    # Class 0: 4 of 5 pixels; class 1: 1 of 2; class 2 occurs only where pixels are ignored.
    assert scores == {"mean_iou": pytest.approx((4 / 5 + 1 / 2) / 2), "pixel_accuracy": pytest.approx(5 / 6)}
    of_classes = task.by_class(EvalPrediction(predicted.numpy(), labelled.numpy()))
    assert of_classes == {"iou": {task.labels[0]: pytest.approx(4 / 5), task.labels[1]: pytest.approx(1 / 2)}}


def test_a_class_that_is_only_predicted_counts_and_one_that_never_occurs_does_not(task):
    answers, labels = torch.tensor([[[0, 2]]]), torch.tensor([[[0, 0]]])
    counts = pixel_counts(torch.nn.functional.one_hot(answers, 3).movedim(-1, 1).float(), labels)
    scores = task.compute_metrics(EvalPrediction(*(count.numpy() for count in counts)))
    assert scores == {"mean_iou": pytest.approx((1 / 2 + 0) / 2), "pixel_accuracy": 0.5}


def test_without_a_pixel_that_counts_there_is_no_figure(task):
    counts = pixel_counts(torch.zeros(1, 3, 1, 2), torch.full((1, 1, 2), 255))
    scores = task.compute_metrics(EvalPrediction(*(count.numpy() for count in counts)))
    assert np.isnan(scores["mean_iou"])
    assert np.isnan(scores["pixel_accuracy"])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_loss_is_that_of_pixels_whatever_the_batches(task, tmp_path, size):
    few = np.full((8, 16), 9, np.uint8)
    few[0, :2] = 0, 1
    data = concatenate_datasets([make_data(2), make_data(2, few), make_data(1, np.full((8, 16), 9, np.uint8))])
    model, options = task.load_model(), {"per_device_eval_batch_size": size, "use_cpu": True, "report_to": "none"}
    arguments = TrainingArguments(tmp_path, disable_tqdm=True, **options, **task.arguments())
    figures = task.measure(plain_trainer(task.trainer_class)(model, arguments, **task.trainer_options(model)), data)
    with torch.no_grad():
        loss = model.eval()(**task.collator([task.prepare(data)[row] for row in range(5)])).loss.item()
    assert figures["eval_loss"] == pytest.approx(loss)


def test_evaluation_enlarges_the_logits_and_forgets_them(task, tmp_path):
    model, data = task.load_model(), make_data(5)
    arguments = TrainingArguments(
        tmp_path, per_device_eval_batch_size=2, use_cpu=True, report_to="none", disable_tqdm=True, **task.arguments()
    )
    trainer = SegmentationTrainer(model, arguments, **task.trainer_options(model))
    figures = task.measure(trainer, data)
    batch = task.collator([task.prepare(data)[0]] * 5)
    with torch.no_grad():
        logits = torch.nn.functional.interpolate(model(**batch).logits, (16, 32), mode="bilinear")
    counted = batch["labels"] != 255
    right = (logits.argmax(1) == batch["labels"])[counted]
    assert figures["eval_pixel_accuracy"] == pytest.approx(right.double().mean().item())
    output = trainer.predict(task.prepare(data))
    assert output.predictions.shape == (5, 2, 3)
    assert output.label_ids.shape == (5, 3)


@pytest.mark.parametrize(("rows", "size", "batches"), [(5, 2, 2), (6, 2, 3), (8, 3, 3)])
def test_a_last_batch_of_one_image_is_left_out_of_training_alone(task, tmp_path, rows, size, batches):
    arguments = TrainingArguments(
        tmp_path, per_device_train_batch_size=size, use_cpu=True, report_to="none", **task.arguments()
    )
    model = torch.nn.Linear(1, 1)
    trainer = SegmentationTrainer(model, arguments, train_dataset=make_data(rows), eval_dataset=make_data(rows))
    assert len(trainer.get_train_dataloader()) == batches
    assert len(trainer.get_eval_dataloader()) == 1
    assert arguments.dataloader_drop_last is False


def test_distance_is_of_each_place_of_the_feature_map_where_the_head_is_new(task):
    torch.manual_seed(0)
    model, before = task.load_model(), task.load_model()
    assert new_parameters(model)
    batches = task.batches(make_data(), 2)
    states, counted = task.hidden(before, batches[0])
    assert states.shape == (2, 2, 4, before.mobilenet_v2.layer[-1].reduce_1x1.convolution.out_channels)
    assert counted.shape == states.shape[:-1]
    assert function_distance(model, before, batches, task.hidden, hidden_change) == 0
    with torch.no_grad():
        model.mobilenet_v2.layer[-1].reduce_1x1.normalization.weight.mul_(1.5)
        model.mobilenet_v2.layer[-1].reduce_1x1.normalization.bias.zero_()
        before.mobilenet_v2.layer[-1].reduce_1x1.normalization.bias.zero_()
    assert function_distance(model, before, batches, task.hidden, hidden_change) > 0


def test_distance_is_of_the_answers_where_no_part_is_new(tmp_path):
    task = make_task(save_mobilenet(tmp_path, model_class=MobileNetV2ForSemanticSegmentation, num_labels=3))
    model, before = task.load_model(), task.load_model()
    assert not new_parameters(model)
    batches = task.batches(make_data(), 2)
    logits, counted = task.logits(model, batches[0])
    assert logits.shape == (2, 2, 4, 3)
    assert counted.all()
    with torch.no_grad():
        for answering in (model, before):
            answering.segmentation_head.classifier.convolution.weight.zero_()
            answering.segmentation_head.classifier.convolution.bias.zero_()
        model.segmentation_head.classifier.convolution.bias[1] = 1
    # Of three classes as likely as each other: log of the mean of exp(bias), less the mean of the bias.
    expected = np.log((2 + np.e) / 3) - 1 / 3
    assert function_distance(model, before, batches, task.logits) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "mask", "message"),
    [
        ({"mask_column": "truth"}, None, r"no column 'truth' in few .* name it in mask_column"),
        ({"image_column": "photo"}, None, r"no column 'photo' in few .* name it in image_column"),
        ({"classes": []}, None, "list them in classes"),
        ({"classes": ["sky"]}, None, r"hold \[1\], which is no index of the 1 classes"),
        ({"ignore_label": 255}, None, r"hold \[9\], .* ignore_label \(now 255\)"),
        ({}, np.zeros((8, 16, 3), np.uint8), "an image of the mode RGB"),
    ],
)
def test_data_that_cannot_be_read_are_refused(folder, options, mask, message):
    with pytest.raises(ValueError, match=message):
        make_task(folder, **options).check("few", make_data(mask=mask))


def test_a_mask_that_is_missing_or_has_another_shape_is_refused_by_its_row(task):
    whole, features = make_data(1)[0], Features({"image": Image(), "mask": Image()})
    for column, value, message in [
        ("mask", None, "row 1 of few has no image in 'mask'"),
        ("image", None, "row 1 of few has no image in 'image'"),
        (
            "mask",
            Pictures.new("L", (8, 16)),
            "row 1 of few has an image of 16 × 8 pixels and a mask of 8 × 16, which would",
        ),
        (
            "mask",
            Pictures.new("RGB", (16, 8)),
            "row 1 of few has an image in 'mask' that cannot be read: .* the mode RGB",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            task.check("few", Dataset.from_list([whole, {**whole, column: value}], features))
    halved = [{"image": Pictures.new("RGB", (15, 9)), "mask": Pictures.new("L", (7, 4))}]
    task.check("few", Dataset.from_list([whole, *halved], features))


def test_a_table_may_hold_the_paths_of_images_and_masks(task, tmp_path):
    for name, image in make_data(1)[0].items():
        image.save(tmp_path / f"{name}.png")
    paths = Dataset.from_list([{name: str(tmp_path / f"{name}.png") for name in ("image", "mask")}])
    paths.to_csv(tmp_path / "table.csv")
    data = DatasetSpec.parse(str(tmp_path / "table.csv")).numbered()[0]
    task.check("few", data)
    assert_equal(task.prepare(data)[0], task.prepare(make_data(1))[0])


def test_masks_whose_foreground_is_what_is_ignored_are_refused(folder):
    task = make_task(folder, classes=["ground", "object"], ignore_label=255)
    mask = np.zeros((8, 16), np.uint8)
    task.check("few", make_data(mask=mask))
    mask[2:4] = 255
    for check in (task.check, task.check_training):
        with pytest.raises(ValueError, match=r"few hold 0, 255, and 255 is ignored .* such as 1 for object"):
            check("few", make_data(mask=mask))
    mask[2:4] = 1
    task.check_training("few", make_data(mask=mask))
    with pytest.raises(ValueError, match="few hold 255, and 255 is ignored"):
        task.check("few", make_data(mask=np.full_like(mask, 255)))


def test_one_of_three_classes_may_be_alone_beside_what_is_ignored(task):
    mask = np.zeros((8, 16), np.uint8)
    mask[0] = 9
    task.check("few", make_data(mask=mask))
    with pytest.raises(ValueError, match="few hold 9, and 9 is ignored"):
        task.check("few", make_data(mask=np.full_like(mask, 9)))


def test_training_data_are_decoded_once(task, monkeypatch):
    task, decoded = make_task(task.model, classes=CLASSES[:2]), []
    monkeypatch.setattr(
        "ftp_hf.tasks.segmentation.mask_indices", lambda mask: decoded.append(mask) or mask_indices(mask)
    )
    task.check_training("few", make_data(5))
    assert len(decoded) == 5


def test_a_class_that_training_data_lack_is_refused(task):
    task.check("few", make_data())
    with pytest.raises(ValueError, match=r"no mask of few holds 2 \(car\), which nothing can be learnt of"):
        task.check_training("few", make_data())


def test_a_comparison_refuses_training_data_without_a_class(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    for count, name in enumerate(("train", "validation", "test", "ood", "retained"), 4):
        make_data(count).to_parquet(tmp_path / f"{name}.parquet")
    options = {"classes": CLASSES, "ignore_label": 9, "image_width": 32, "image_height": 16}
    content = task_config(tmp_path, task="image-segmentation", **options)
    with pytest.raises(ValueError, match=r"^train: no mask of data set 'train' holds 2 \(car\)"):
        RunData(ComparisonConfig.load(write_config(tmp_path, content)))


@pytest.mark.slow
def test_a_comparison_from_its_config(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    rows = {"train": 9, "validation": 4, "test": 4, "ood": 4, "retained": 4}
    save_sets(tmp_path, **{name: make_data(count) for name, count in rows.items()})
    content = task_config(
        tmp_path,
        task="image-segmentation",
        classes=CLASSES[:2],
        ignore_label=9,
        image_width=32,
        image_height=16,
        random_flip=True,
        corruptions={"kinds": ["fog"], "severities": [3], "max_samples": 2},
    )
    results = compare_whole_and_interrupted(content, tmp_path)
    assert results.metric == "mean_iou"
    assert not results.pretrained, "its head is new"
    for run in results.runs:
        measured = {(result.kind, result.data): result.metrics for result in run.summary.results}
        assert measured.keys() == {
            ("validation", "validation"),
            ("id", "test"),
            ("ood", "ood"),
            ("retained", "retained"),
            ("corrupted", "fog/3"),
        }
        assert {"mean_iou", "pixel_accuracy", "hidden_change"} <= measured["id", "test"].keys()
    assert results.runs[0].drift.typical_fine_tuned > 0
