"""A run's summary with everything in it."""

import dataclasses

from ftp_hf import RunSummary
from ftp_hf.runs.facts import (
    PRETRAINED,
    BaseModel,
    DataFacts,
    Evaluation,
    Hardware,
    LogRow,
    OtherModel,
    ProjectionFacts,
    RadiusFacts,
)
from ftp_hf.runs.figures import stages_of

__all__ = ["make_stages", "make_summary"]


def make_summary(seed=0, method="ftp", shift=0.0, **changes):
    accuracy = {"test": 0.9 + shift, "sketch": 0.5 + shift, "cartoon": 0.7 + shift}
    summary = RunSummary(
        name="model",
        method=method,
        task="text-classification",
        base_model=BaseModel("someone/encoder", on_hub=True, revision="a" * 40),
        labels=["negative", "positive"],
        seed=seed,
        steps=8,
        kept_step=4,
        optimizer="torch.optim.AdamW(lr=0.1)",
        projection=ProjectionFacts(
            kappa=1.0,
            radius_lr=0.01,
            radius_betas=[0.9, 0.999],
            radii={f"encoder.layer.{n}.weight": RadiusFacts(0.1 * (n + 1), 0.09 * (n + 1)) for n in range(3)},
            projected=[f"encoder.layer.{n}.weight" for n in range(3)],
            excluded=["classifier.weight"],
        )
        if method == "ftp"
        else None,
        results=[
            Evaluation(name, "id" if name == "test" else "ood", {"accuracy": {str(seed): value}})
            for name, value in accuracy.items()
        ],
        data=[
            DataFacts("train", "train", 100, ["text"], "someone/data", on_hub=True, revision="b" * 40),
            DataFacts("test", "id", 50, ["text"], "someone/data", on_hub=True, split="test"),
            DataFacts("sketch", "ood", 60),
            DataFacts("cartoon", "ood", 60),
        ],
        hyperparameters={"learning_rate": 0.1, "seed": seed},
        defaults={"weight_decay": 0.0},
        log=[LogRow(4, 1.0, 0.5, {"accuracy": 0.9}, 0.1, 0.2), LogRow(8, 2.0, 0.4)],
        hardware=Hardware("CPU", seconds_per_step=0.1, total_seconds=1.0, peak_memory_bytes=2**30),
        versions={"torch": "2.13"},
        commands=[f"python train.py --seed {seed}"],
    )
    return dataclasses.replace(summary, **changes)


def make_stages():
    """The runs of three stages one after the other, each of which forgets something."""
    accuracies = {"january": [0.9], "february": [0.85, 0.8], "march": [0.84, 0.6, 0.7]}
    runs = []
    for number, (stage, found) in enumerate(accuracies.items()):
        measured = zip(accuracies, found, strict=False)
        results = [
            Evaluation(name, "id" if name == stage else "earlier", {"accuracy": {"0": value}})
            for name, value in measured
        ]
        results.sort(key=lambda result: result.kind != "id")
        retained = Evaluation("old", "retained", {"wer": {"0": [0.1, 0.12, 0.15][number]}})
        before = OtherModel(PRETRAINED, [Evaluation("old", "retained", {"wer": {"0": 0.09}})])
        data = [DataFacts(stage, "train", 100), *(DataFacts(each.data, each.kind, 50) for each in results)]
        stages = stages_of(runs[-1]) if runs else []
        runs.append(make_summary(results=[*results, retained], comparisons=[before], data=data, stages=stages))
    return runs
