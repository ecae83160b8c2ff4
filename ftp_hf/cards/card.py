"""A model card from a run's summary, alone or within a card that a person wrote."""

import math
import re
from pathlib import Path
from typing import Any, TypeGuard

import huggingface_hub
import yaml
from huggingface_hub import CardData, EvalResult, ModelCard, ModelCardData

from ftp_hf.common.figures import is_share, main_metric
from ftp_hf.common.files import write_text
from ftp_hf.common.folder import CARD, PICTURE
from ftp_hf.common.privacy import is_local_path
from ftp_hf.runs.facts import DataFacts
from ftp_hf.runs.summary import RunSummary

from .sections import sections

__all__ = ["END", "START", "card_data", "eval_results_file", "model_card", "update_card", "write_model_card"]

_SENTENCE_TRANSFORMERS = ("SentenceTransformer", "SparseEncoder", "CrossEncoder", "MultiVectorEncoder")

START = "<!-- ftp_hf: made from results.json; what is written between here and the end mark is replaced -->"
END = "<!-- ftp_hf: end -->"

_PLACES = {
    "id": "in distribution",
    "earlier": "of an earlier stage of its training",
    "ood": "out of distribution",
    "retained": "what the pre-trained model could do",
}
_TEMPLATE = Path(__file__).with_name("template.md")
_EVAL_RESULTS = Path(".eval_results") / "ftp_hf.yaml"
# These we correct in a card that exists.
_OURS = ("base_model", "base_model_relation", "metrics", "model-index")
_TRAINERS_DRAFT = (
    "This model card has been generated automatically according to the information the Trainer had access to"
)
_PEFT_ADDS = re.compile(r"#+ Framework versions|#+ Training procedure|- PEFT .*")


def model_card(summary: RunSummary, *, model_id: str | None = None, picture: str | None = None) -> ModelCard:
    """
    The card of a run. What the summary does not know is left out.

    Args:
        summary ([`RunSummary`]): of the run.
        model_id (`str`, *optional*): what the usage snippet loads, such as the name on the Hub; by default the summary's
            name.
        picture (`str`, *optional*): the radius picture, relative to the card.

    Returns:
        `ModelCard`: to save, or to [`update_card`] one with.
    """
    card: ModelCard = ModelCard.from_template(
        card_data(summary),
        template_str=_TEMPLATE.read_text(encoding="utf-8"),
        **{**sections(summary, model_id or summary.name), "start": START, "end": END, "picture": picture},
    )
    card.text = re.sub(r"\n{3,}", "\n\n", card.text).rstrip() + "\n"
    return card


def card_data(summary: RunSummary) -> ModelCardData:
    """The card's metadata. Base model and data sets are in it where they are on the Hub: it would link others."""
    base, measured = summary.base_model, _eval_results(summary)
    on_hub = base is not None and base.on_hub
    tags = [*(["ftp", "robust-fine-tuning"] if summary.method == "ftp" else []), *summary.tags]
    if summary.adapter:
        tags.append(summary.adapter.lower())
    return ModelCardData(
        base_model=base.name if base is not None and on_hub else None,
        base_model_relation=("adapter" if summary.adapter else "finetune") if on_hub else None,
        datasets=sorted({data.source for data in summary.data if data.kind == "train" and data.on_hub and data.source})
        or None,
        eval_results=measured or None,
        language=summary.language,
        library_name=_library(summary),
        license=summary.license,
        metrics=list(dict.fromkeys(result.metric_type for result in measured)) or None,
        model_name=summary.name if measured else None,
        pipeline_tag=summary.task,
        tags=tags or None,
    )


def _library(summary: RunSummary) -> str:
    if summary.architecture in _SENTENCE_TRANSFORMERS:
        return "sentence-transformers"
    return "peft" if summary.adapter else "transformers"


def update_card(existing: str, card: ModelCard) -> ModelCard:
    """
    Put a card into one that exists. Its text outside the marks stays, and so does its metadata, except for figures and a base
    model that an earlier run put there; tags, data sets and metrics are merged. Drafts that nobody filled in are replaced.

    Args:
        existing (`str`): the content of a `README.md`.
        card (`ModelCard`): as [`model_card`] makes it.

    Raises:
        ValueError: the metadata cannot be read, or one of the marks is missing.
    """
    try:
        old = ModelCard(existing, ignore_metadata_errors=True)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ValueError(
            f"the metadata of the model card cannot be read: {error}. Correct it, or delete the card"
        ) from error
    text = _put_between_marks(old.text, card.text)
    if START in old.text:
        _forget_run(old.data, old.text.partition(START)[2].rpartition(END)[0])
    return ModelCard(f"---\n{_merge(old.data, card.data).to_yaml()}\n---\n\n{text.lstrip()}")


def write_model_card(summary: RunSummary, folder: str | Path, *, model_id: str | None = None) -> Path:
    """
    Write or update `README.md`, with the picture if it is there, and `.eval_results/` for data sets of the Hub, in place
    of the results of an earlier run.

    Args:
        summary ([`RunSummary`]): of the run.
        folder (`str` or `Path`): where the card goes.
        model_id (`str`, *optional*): as for [`model_card`].

    Returns:
        `Path`: the card.

    Raises:
        ValueError: as [`update_card`].
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / CARD
    card = model_card(summary, model_id=model_id, picture=PICTURE if (folder / PICTURE).is_file() else None)
    if file.is_file():
        card = update_card(file.read_text(encoding="utf-8-sig"), card)
    write_text(file, card.content)
    if results := eval_results_file(summary):
        (folder / _EVAL_RESULTS).parent.mkdir(exist_ok=True)
        write_text(folder / _EVAL_RESULTS, results)
    else:
        (folder / _EVAL_RESULTS).unlink(missing_ok=True)
    return file


def eval_results_file(summary: RunSummary) -> str | None:
    """The results on data sets of the Hub in the form of `.eval_results/*.yaml`; `None` where there are none."""
    entries = []
    for result in summary.results:
        data = summary.data_facts(result.data, result.kind)
        metric = summary.metric if summary.metric in result.metrics else main_metric(result.metrics)
        value = summary.value(result.data, metric, result.kind)
        if data and data.on_hub and data.source and metric and _is_finite(value) and result.kind in _PLACES:
            notes = f"{metric} on {data.split or 'test'}, {_PLACES[result.kind]}"
            entries.append(
                huggingface_hub.EvalResultEntry(
                    dataset_id=data.source,
                    task_id=data.config or "default",
                    value=value,
                    dataset_revision=data.revision,
                    notes=notes,
                )
            )
    return yaml.safe_dump(huggingface_hub.eval_result_entries_to_yaml(entries), sort_keys=False) if entries else None


def _eval_results(summary: RunSummary) -> list[EvalResult]:
    results: list[EvalResult] = []
    taken: set[tuple[str, str, str]] = set()
    training = next((data.name for data in summary.data if data.kind == "train"), "train")
    # Corrupted copies are no data that anybody could find.
    found = [result for result in summary.results if result.kind != "corrupted"]
    tested = [result for result in found if result.kind != "validation"] or found
    for result in tested:
        data = summary.data_facts(result.data, result.kind) or DataFacts(result.data, result.kind)
        # Local data has no name on the Hub: ID data goes by that of the training data.
        kind = (
            data.source
            if data.on_hub and data.source
            else data.name
            if result.kind in ("earlier", "ood", "retained")
            else training
        )
        config = data.config or data.name
        split = data.split or ("validation" if result.kind == "validation" else "test")
        if (kind, config, split) in taken:
            # Results of one data set, config and split are merged.
            config = f"{config}-{data.name}"
        taken.add((kind, config, split))
        for metric in result.metrics:
            value = summary.value(result.data, metric, result.kind)
            if _is_finite(value) and (is_share(metric) or metric in (summary.metric, main_metric(result.metrics))):
                results.append(
                    EvalResult(
                        task_type=summary.task or "other",
                        dataset_type=kind,
                        dataset_name=f"{data.name} ({result.kind.upper() if result.kind in ('id', 'ood') else result.kind})",
                        dataset_config=config,
                        dataset_split=split,
                        dataset_revision=data.revision,
                        metric_type=metric,
                        metric_value=value,
                    )
                )
    return results


def _is_finite(value: float | None) -> TypeGuard[float]:
    """Whether it can be published: the Hub's metadata has no form for NaN."""
    return value is not None and math.isfinite(value)


def _forget_run(data: CardData, text: str) -> None:
    """Take out of a card's metadata what the run that its text describes put there, and leave what a person did."""
    results = data.get("eval_results") or []
    theirs = [result for result in results if _is_of_others(result)]
    data["eval_results"] = theirs or None
    if results and not theirs:
        data["model_name"] = None
    measured = {result.metric_type for result in results if result not in theirs}
    data["metrics"] = [metric for metric in _listed(data.get("metrics")) if metric not in measured] or None
    # A base model that the text does not link was named by a person: the run's own was not on the Hub.
    if f"](https://huggingface.co/{data.get('base_model')})" in text:
        data["base_model"] = data["base_model_relation"] = None


def _is_of_others(result: EvalResult) -> bool:
    """Whether a person added it: our own results name no source."""
    return bool(result.source_url or result.verified)


def _listed(value: Any) -> list[Any]:
    """Metadata that may be one string or a list of them."""
    return [value] if isinstance(value, str) else value or []


def _merge(old: CardData, new: CardData) -> ModelCardData:
    kept, ours = dict(old.to_dict()), dict(new.to_dict())  # type: ignore[no-untyped-call]
    if is_local_path(kept.get("base_model")):
        # PEFT writes the path that it was loaded from.
        del kept["base_model"]
        kept.pop("base_model_relation", None)
    for key, value in ours.items():
        if key in ("tags", "datasets", "metrics"):
            kept[key] = list(dict.fromkeys([*_listed(kept.get(key)), *value]))
        elif key in _OURS or kept.get(key) is None:
            kept[key] = value
    if tags := [tag for tag in kept.pop("tags", []) if not is_local_path(str(tag).rpartition(":")[2])]:
        kept["tags"] = tags
    merged = ModelCardData(**kept, ignore_metadata_errors=True)
    ours_too = {result.unique_identifier for result in new.get("eval_results") or []}
    theirs = [
        result
        for result in old.get("eval_results") or []
        if _is_of_others(result) and result.unique_identifier not in ours_too
    ]
    if theirs and new.get("eval_results"):
        merged.eval_results = [*(merged.eval_results or []), *theirs]
    return merged


def _put_between_marks(old: str, new: str) -> str:
    if (START in old) != (END in old):
        raise ValueError(
            f"the model card has only one of the marks {START!r} and {END!r}: put the other back, or delete the card"
        )
    if START in old:
        before, _, rest = old.partition(START)
        generated = new.partition(START)[2].rpartition(END)[0]
        return f"{before}{START}{generated}{END}{rest.rpartition(END)[2]}"
    if not old.strip() or _is_draft(old):
        return new
    return f"{old.rstrip()}\n\n{START}{new.partition(START)[2]}"


def _is_draft(text: str) -> bool:
    if _TRAINERS_DRAFT in " ".join(text.split()):
        return True
    # The template that PEFT leaves beside each adapter, with nothing added by a person.
    template = set(ModelCard.from_template(ModelCardData()).text.splitlines())
    return all(line in template or _PEFT_ADDS.fullmatch(line) for line in filter(str.strip, text.splitlines()))
