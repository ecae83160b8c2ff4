"""Comparisons with known figures, as if they had been run."""

import math

from ftp_hf.compare.evidence.results import ComparedRun, ComparisonResults, Drift, MethodFacts, ParameterDrift
from ftp_hf.runs.facts import BaseModel, DataFacts, Evaluation, Hardware, ProjectionFacts, RadiusFacts
from ftp_hf.runs.summary import RunSummary

TITLES = {
    "plain": "Plain fine-tuning",
    "small-lr": "Small learning rate",
    "linear-probe": "Linear probe",
    "lp-ft": "LP-FT",
    "l2-sp": "L2-SP",
    "wise-ft": "WiSE-FT",
    "tpgm": "TPGM",
    "spd": "SPD",
    "lora": "LoRA",
    "ftp": "FTP",
    "lora+ftp": "LoRA + FTP",
}
STEP_SECONDS = {"plain": 0.5, "tpgm": 1.0, "ftp": 0.52, "linear-probe": 0.2}
ALPHAS = (0.0, 0.5, 1.0)
RATES = (1e-4, 1e-3, 1e-2)

# Method → (ID, OOD) of seeds 0, 1, 2. Plain fine-tuning's mean is (0.91, 0.61).
PLAIN = [(0.90, 0.60), (0.91, 0.62), (0.92, 0.61)]
# A clear gain of 2 points OOD: +0.019, +0.020, +0.021; ID within a point: +0.001, 0, −0.001.
GAIN = [(0.901, 0.619), (0.91, 0.64), (0.919, 0.631)]
# A clear loss of 5 points in both: −0.05, −0.051, −0.049.
LOSS = [(0.85, 0.55), (0.859, 0.569), (0.871, 0.561)]
# Noise: ID +0.03, −0.03, 0; OOD +0.04, −0.03, +0.02.
TIE = [(0.93, 0.64), (0.88, 0.59), (0.92, 0.63)]


def comparison(figures=None, *, ood=("sketch", "cartoon"), corruptions=("fog", "noise"), metric="accuracy", **changes):
    """
    A comparison whose methods have these (ID, OOD) figures for seeds 0, 1, …

    The first OOD set is a tenth below the mean and the second one above it. Every kind of corruption takes a hundredth of
    accuracy per severity, the second kind twice as much. ID validation is ID test and a hundredth; the settings that were
    tried and not chosen, one on each side of it, have a tenth less.
    """
    figures = {"plain": PLAIN, "ftp": GAIN} if figures is None else figures
    seeds = list(range(max(map(len, figures.values()))))
    runs = [
        run
        for method, points in figures.items()
        for seed, point in enumerate(points)
        for run in _runs(method, seed, point, figures, ood, corruptions, metric)
    ]
    known = {
        "name": "quick",
        "metric": metric,
        "methods": [_facts(method) for method in figures],
        "seeds": seeds,
        "runs": runs,
        "config": {"model": "someone/encoder", "methods": list(figures), "seeds": seeds},
        "command": "ftp-hf compare quick.yaml",
    }
    return ComparisonResults(**{**known, **changes})


def lost(points):
    """The same points, of which the first seed came to nothing."""
    return [(math.nan, math.nan), *points[1:]]


def with_epochs(results, kept, *, epochs=20, best=True):
    """The same comparison, whose runs took 50 steps an epoch and whose kept weights of seeds 0, 1, … are of these epochs."""
    for run in results.runs:
        run.summary.steps, run.summary.kept_step = 50 * epochs, 50 * kept[run.seed]
        run.summary.hyperparameters = {"num_train_epochs": epochs, "load_best_model_at_end": best}
    return results


def with_inert(results, kind="random_casing"):
    """The same comparison, in which a kind of corruption takes nothing from any model, whatever its severity."""
    for run in results.runs:
        for result in run.summary.of_kind("corrupted"):
            if result.data.startswith(f"{kind}/"):
                result.metrics = {"accuracy": {str(run.seed): 0.9}, "loss": {str(run.seed): 0.3}}
    return results


def with_retained(results, name, metric, before, values):
    """
    The same comparison with a retained set, evaluated at the chosen settings: `values` has those of seeds 0, 1, … for each
    method, `before` is what the pre-trained model came to.
    """
    for method, of_seeds in values.items():
        for run, value in zip(results.chosen_runs(method), of_seeds, strict=True):
            run.summary.results.append(
                Evaluation(name, "retained", {"loss": {str(run.seed): 1.0}, metric: {str(run.seed): value}})
            )
            run.summary.data.append(DataFacts(name, "retained", 32))
    results.pretrained.append(Evaluation(name, "retained", {"loss": {"0": 1.0}, metric: {"0": before}}))
    return results


def _facts(method):
    if method == "wise-ft":
        return MethodFacts(method, TITLES[method], "Wortsman et al. 2022", {"alpha": list(ALPHAS)}, {"alpha": 0.5})
    return MethodFacts(
        method, TITLES[method], f"the paper of {method}", {"learning_rate": list(RATES)}, {"learning_rate": 1e-3}
    )


def _runs(method, seed, point, figures, ood, corruptions, metric):
    if method != "wise-ft":
        chosen = _run(method, {"learning_rate": RATES[1]}, seed, point, ood, corruptions, metric)
        low, high = (
            _run(method, {"learning_rate": rate}, seed, (point[0] - 0.1, 0), (), (), metric) for rate in RATES[::2]
        )
        return [low, chosen, high] if seed == 0 else [chosen]
    # From the pre-trained model, 8 points below plain fine-tuning in ID and 4 above it in OOD, through the given point.
    identity, robust = figures["plain"][seed] if "plain" in figures else (point[0] + 0.01, point[1] - 0.01)
    ends = {0.0: (identity - 0.08, robust + 0.04), 0.5: point, 1.0: (identity, robust)}
    return [_run(method, {"alpha": alpha}, seed, ends[alpha], ood, corruptions, metric) for alpha in ALPHAS]


def _run(method, setting, seed, point, ood, corruptions, metric):
    identity, robust = point
    measured = {("validation", "validation"): identity + 0.01}
    data = [DataFacts("train", "train", 1000), DataFacts("validation", "validation", 100)]
    if robust:
        measured["test", "id"] = identity
        for number, name in enumerate(ood):
            shift = 0 if len(ood) == 1 else 0.1 * (2 * number / (len(ood) - 1) - 1)
            measured[name, "ood"] = robust + shift
        for number, name in enumerate(corruptions, 1):
            for severity in range(1, 6):
                measured[f"{name}/{severity}", "corrupted"] = identity - 0.01 * number * severity
        data += [DataFacts(name, kind, 200) for name, kind in measured if kind != "validation"]
    summary = RunSummary(
        name=f"{method}-seed{seed}",
        method="ftp" if "ftp" in method else "plain",
        base_model=BaseModel("someone/encoder", on_hub=True, parameters=22_700_000),
        seed=seed,
        results=[Evaluation(name, kind, {metric: {str(seed): value}}) for (name, kind), value in measured.items()],
        data=data,
        hardware=Hardware(
            "GPU, 80 GB",
            seconds_per_step=STEP_SECONDS.get(method, 0.5) * (1 + 0.01 * seed),
            total_seconds=60.0,
            peak_memory_bytes=int((1.5 if method == "tpgm" else 1.0) * (2**30 + 2**20 * seed)),
        ),
        projection=_projection(seed) if "ftp" in method else None,
        versions={"torch": "2.13.0", "transformers": "5.23.0"},
    )
    return ComparedRun(method, setting, seed, summary, 22_700_000, 181_600_000, _drift(seed))


def _projection(seed):
    layers = [f"encoder.layer.{number}.{name}" for number in range(3) for name in ("query.weight", "output.dense.bias")]
    radii = {name: RadiusFacts(0.01 * (2 + seed) ** number, 0.01) for number, name in enumerate(layers)}
    return ProjectionFacts(1.0, 0.01, [0.9, 0.999], radii | {"embeddings.weight": RadiusFacts(1e-8, 1e-8)})


def _drift(seed):
    parameters = [
        ParameterDrift(f"encoder.layer.{number}.weight", 0.1 * (number + 1), 0.01 * (number + 1), 0.1, 2.0, 1.5)
        for number in range(5)
    ]
    return Drift(0.5, 0.02 + 0.001 * seed, 0.4, 6.0, 5.0, parameters)
