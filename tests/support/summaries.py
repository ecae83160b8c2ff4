"""A run's summary with everything in it."""

import dataclasses

from ftp_hf import RunSummary
from ftp_hf.runs.facts import BaseModel, DataFacts, Evaluation, Hardware, LogRow, ProjectionFacts, RadiusFacts

__all__ = ["make_summary"]


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
