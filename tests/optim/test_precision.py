"""Mixed precision, loss scaling, clipping, accumulation: the radius reads the gradient that torch's optimizer steps with."""

import copy
import functools
import math

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from datasets import Dataset
from torch import nn
from transformers import ViTForImageClassification

from ftp_hf import FTPTrainer, LowRankProduct, LowRankUpdate
from tests.support import trainers
from tests.support.equal import assert_equal
from tests.support.models import tiny_vit_config
from tests.support.problems import PROJECTED

NAMES = ("FTPAdamW-fused", "FTPAdamW-foreach", "FTPSGD", "FTP-RAdam")
every_optimizer = pytest.mark.parametrize("make", [PROJECTED[name] for name in NAMES], ids=NAMES)
every_dtype = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, None], ids=["bf16", "fp16", "float32"])

STEPS = 10
SCALE = 2.0**8  # a power of two: scaling and unscaling round nothing
PRODUCT = (LowRankUpdate("product", (LowRankProduct(rows="2.weight", columns="0.weight"),)),)
TOO_LARGE = 2.0**127  # with a mean over 16 rows taken 16 times, gradients overflow even in float32


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 3))


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(STEPS, 16, 6, generator=generator)
    return [(x, x[:, :3].argmax(dim=1)) for x in inputs]


def optimize(make, model, **options):
    return make(model.named_parameters(), exclude=["4.*"], **options)


def backward(model, batch, dtype, scaler=None):
    model.zero_grad()
    x, y = batch
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        loss = len(y) * nn.functional.cross_entropy(model(x), y)
    (loss if scaler is None else scaler.scale(loss)).backward()


def run(make, model, batches, dtype=None, scaler=None, prepare=None):
    """Train a copy of the model, as torch's documentation of GradScaler has it; `prepare` sees the optimizer."""
    model = copy.deepcopy(model)
    optimizer = optimize(make, model)
    for batch in batches:
        backward(model, batch, dtype, scaler)
        if prepare is not None:
            prepare(model, optimizer)
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
    return model, optimizer


def snapshot(model, optimizer):
    """All that a step can change, copied."""
    return copy.deepcopy(
        {
            "weights": dict(model.named_parameters()),
            "state": optimizer.state_dict()["state"],
            "anchors": optimizer.anchors(),
            "radii": {name: list(radius) for name, radius in optimizer.radii().items()},
        }
    )


def moved(optimizer):
    """Whether a good part of the radii has left the floor: else there would be nothing to compare."""
    return sum(radius.radius > 1e-7 for radius in optimizer.radii().values()) >= len(optimizer.radii()) / 4


@every_optimizer
@every_dtype
def test_a_skipped_step_changes_nothing_and_the_next_is_as_if_it_had_not_been(make, dtype, model, batches):
    scaler = torch.amp.GradScaler("cpu", init_scale=TOO_LARGE, backoff_factor=SCALE / TOO_LARGE)
    trained, good = copy.deepcopy(model), []
    optimizer = optimize(make, trained)
    for step, batch in enumerate(batches):
        if step in {4, 5}:
            scaler.update(TOO_LARGE)
        before, scale = snapshot(trained, optimizer), scaler.get_scale()
        backward(trained, batch, dtype, scaler)
        scaler.step(optimizer)
        scaler.update()
        if step in {0, 4, 5}:
            assert (scale, scaler.get_scale()) == (TOO_LARGE, SCALE)
            assert_equal(snapshot(trained, optimizer), before)
        else:
            good.append(batch)
            assert optimizer.state_dict()["state"][0]["radius"][3] == len(good)

    assert moved(optimizer)
    unscathed = run(make, model, good, dtype, torch.amp.GradScaler("cpu", init_scale=SCALE))
    assert_equal(snapshot(trained, optimizer), snapshot(*unscathed))


@every_optimizer
@every_dtype
def test_accelerates_optimizer_skips_and_unscales(make, dtype, model, batches):
    Accelerator(cpu=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=TOO_LARGE, backoff_factor=SCALE / TOO_LARGE)
    trained = copy.deepcopy(model)
    optimizer = optimize(make, trained)
    accelerated = AcceleratedOptimizer(optimizer, scaler=scaler)
    skipped = []
    for batch in batches:
        before = snapshot(trained, optimizer)
        backward(trained, batch, dtype, scaler)
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(trained.parameters(), 2.0)
        accelerated.step()
        skipped.append(accelerated.step_was_skipped)
        if accelerated.step_was_skipped:
            assert_equal(snapshot(trained, optimizer), before)
    assert skipped == [True] + [False] * (STEPS - 1)

    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)

    def clip(model, optimizer):
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)

    assert moved(optimizer)
    assert_equal(snapshot(trained, optimizer), snapshot(*run(make, model, batches[1:], dtype, scaler, clip)))


@every_optimizer
@pytest.mark.parametrize("dtype", [torch.bfloat16, None], ids=["bf16", "float32"])
def test_the_scaler_unscales_by_itself(make, dtype, model, batches):
    plain = snapshot(*run(make, model, batches, dtype))
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    assert_equal(snapshot(*run(make, model, batches, dtype, scaler)), plain)

    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)
    unscaled = run(make, model, batches, dtype, scaler, lambda _, optimizer: scaler.unscale_(optimizer))
    assert_equal(snapshot(*unscaled), plain)

    # Scaled gradients that nobody unscales do show in the radii.
    scaled = run(make, model, batches, dtype, prepare=lambda model, _: [p.grad.mul_(SCALE) for p in model.parameters()])
    assert snapshot(*scaled)["radii"] != plain["radii"]


MOST = {"norm": 2.0, "value": 0.1}
CLIP = {"norm": nn.utils.clip_grad_norm_, "value": nn.utils.clip_grad_value_}


def clipped_by_hand(gradients, clipping):
    most = MOST[clipping]
    if clipping == "value":
        return [gradient.clamp(-most, most) for gradient in gradients]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    assert norm > most
    return [gradient * (most / (norm + 1e-6)) for gradient in gradients]


@every_optimizer
@every_dtype
@pytest.mark.parametrize("clipping", CLIP)
def test_the_radius_reads_unscaled_and_clipped_gradients(make, dtype, clipping, model, batches):
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)

    def unscale_and_clip(model, optimizer):
        scaler.unscale_(optimizer)
        CLIP[clipping](model.parameters(), MOST[clipping])

    trained = run(make, model, batches, dtype, scaler, unscale_and_clip)

    by_hand = copy.deepcopy(model)
    optimizer = optimize(make, by_hand)
    for x, y in batches:
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = len(y) * nn.functional.cross_entropy(by_hand(x), y)
        gradients = torch.autograd.grad(loss * SCALE, list(by_hand.parameters()))
        gradients = clipped_by_hand([gradient / SCALE for gradient in gradients], clipping)
        for parameter, gradient in zip(by_hand.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    assert moved(optimizer)
    assert_equal(snapshot(*trained), snapshot(by_hand, optimizer))
    unclipped = run(make, model, batches, dtype, torch.amp.GradScaler("cpu", init_scale=SCALE))
    assert all(trained[1].radii()[name].radius != value.radius for name, value in unclipped[1].radii().items())


@every_optimizer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("low_rank", [(), PRODUCT], ids=["dense", "low rank"])
def test_a_step_inside_autocast_is_the_step_outside(make, dtype, low_rank, model, batches):
    make = functools.partial(make, low_rank=low_rank)
    inside = copy.deepcopy(model)
    optimizer = optimize(make, inside)
    for batch in batches:
        backward(inside, batch, dtype)
        with torch.autocast("cpu", dtype):
            optimizer.step()
            radii = optimizer.radii()
    outside = run(make, model, batches, dtype)
    assert moved(optimizer)
    assert_equal(snapshot(inside, optimizer), snapshot(*outside))
    assert radii == optimizer.radii()
    in_float32 = run(make, model, batches)
    assert optimizer.radii() != in_float32[1].radii()


@every_optimizer
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("scaled", [True, False], ids=["scaler", "no scaler"])
def test_one_gradient_that_is_not_finite(make, bad, scaled, model, batches):
    scaler = torch.amp.GradScaler("cpu", init_scale=SCALE) if scaled else None
    trained, optimizer = run(make, model, batches[:-1], scaler=scaler)
    before = snapshot(trained, optimizer)
    clean = run(make, model, batches)

    backward(trained, batches[-1], None, scaler)
    trained[2].weight.grad[3, 5] = bad
    if scaled:
        scaler.step(optimizer)
        assert_equal(snapshot(trained, optimizer), before)
        return
    optimizer.step()
    after, expected = snapshot(trained, optimizer), snapshot(*clean)
    names = list(dict(trained.named_parameters()))
    index = names.index("2.weight")
    # Radius and moments stay, and the weights of no other row; the other parameters have not seen it.
    assert_equal(after["state"][index]["radius"][:3], before["state"][index]["radius"][:3])
    assert [row for row, values in enumerate(trained[2].weight) if not values.isfinite().all()] == [3]
    for part, key in (("weights", "2.weight"), ("state", index), ("anchors", "2.weight"), ("radii", "2.weight")):
        assert_equal(*({k: v for k, v in run[part].items() if k != key} for run in (after, expected)))


@every_optimizer
def test_clipping_spreads_a_nan_to_every_gradient_but_no_radius_moves(make, model, batches):
    trained, optimizer = run(make, model, batches[:-1])
    before = snapshot(trained, optimizer)
    backward(trained, batches[-1], None)
    trained[2].weight.grad[3, 5] = math.nan
    assert nn.utils.clip_grad_norm_(trained.parameters(), 1.0).isnan()
    optimizer.step()
    assert all(parameter.isnan().all() for parameter in trained.parameters())
    after = snapshot(trained, optimizer)
    projected = {name: index for index, name in enumerate(before["weights"]) if name in before["radii"]}
    assert len(projected) == 4
    for name, index in projected.items():
        assert_equal(after["state"][index]["radius"][:3], before["state"][index]["radius"][:3])
        if before["radii"][name][0] > 1e-7:  # at the floor, the weight is its own anchor
            assert_equal(after["anchors"][name], before["anchors"][name])


# The bias of a key does not change the attention: its gradient is rounding, which Adam would divide by itself.
TINY_VIT = tiny_vit_config(num_hidden_layers=1, qkv_bias=False, num_labels=3)


@pytest.fixture
def vit():
    return ViTForImageClassification(TINY_VIT)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(64, 3, 8, 8, generator=generator)
    labels = pixels.mean(dim=(2, 3)).argmax(dim=1)
    return Dataset.from_dict({"pixel_values": pixels.tolist(), "labels": labels.tolist()}).with_format("torch")


def train(make, vit, images, folder, **arguments):
    """Fine-tune a copy with FTPTrainer: six steps on the first rows, in order."""
    model = copy.deepcopy(vit)
    optimizer = make(model.named_parameters(), exclude=["classifier.*"])
    defaults = {
        "max_steps": 6,
        "per_device_train_batch_size": 8,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
    }
    args = trainers.arguments(folder, **{**defaults, **arguments})
    FTPTrainer(model, args, train_dataset=images, optimizers=(optimizer, None)).train()
    return model, optimizer


@every_optimizer
@pytest.mark.parametrize(
    "arguments",
    [
        {"max_grad_norm": 0.0},
        {"max_grad_norm": 0.05},
        {"max_grad_norm": 0.05, "bf16": True},
        {"max_grad_norm": 0.05, "gradient_accumulation_steps": 4, "per_device_train_batch_size": 2},
    ],
    ids=["plain", "clipped", "clipped-bf16", "clipped-accumulated"],
)
def test_what_the_trainer_does_is_what_one_would_write_by_hand(make, arguments, vit, images, tmp_path):
    trained = train(make, vit, images, tmp_path, **arguments)

    model = copy.deepcopy(vit).train()
    optimizer = make(model.named_parameters(), exclude=["classifier.*"])
    rows, count = arguments.get("per_device_train_batch_size", 8), arguments.get("gradient_accumulation_steps", 1)
    most = arguments["max_grad_norm"]
    for step in range(6):
        gradients = [torch.zeros_like(parameter) for parameter in model.parameters()]
        for first in range(8 * step, 8 * (step + 1), rows):
            batch = images[first : first + rows]
            with torch.autocast("cpu", torch.bfloat16, enabled=arguments.get("bf16", False)):
                loss = model(**batch, num_items_in_batch=torch.tensor(rows * count)).loss
            torch._foreach_add_(gradients, torch.autograd.grad(loss, list(model.parameters())))
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        assert norm > most
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient * (most / (norm + 1e-6)) if most else gradient
        optimizer.step()

    assert moved(optimizer)
    assert_equal(snapshot(*trained), snapshot(model, optimizer))


@every_optimizer
@pytest.mark.slow
def test_accumulating_four_batches_of_two_is_one_of_eight(make, vit, images, tmp_path):
    one = train(make, vit, images, tmp_path)
    many = train(make, vit, images, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4)
    tolerance = {"rtol": 1e-5, "atol": 1e-6}
    actual, expected = snapshot(*many), snapshot(*one)
    assert moved(one[1])
    torch.testing.assert_close(actual["weights"], expected["weights"], **tolerance)
    torch.testing.assert_close(actual["radii"], expected["radii"], **tolerance)
    assert_equal(actual["anchors"], expected["anchors"])
