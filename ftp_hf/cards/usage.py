"""The snippet of a model card that loads the model."""

from ftp_hf.runs.summary import RunSummary

__all__ = ["usage"]

_AUTO_CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "image-classification": "AutoModelForImageClassification",
    "image-segmentation": "AutoModelForSemanticSegmentation",
    "text-generation": "AutoModelForCausalLM",
}
_INPUTS = {
    "text-classification": '"The plot is thin, but the actors are a joy."',
    "token-classification": '"Ada Lovelace was born in London."',
    "image-classification": "image",
    "image-segmentation": "image",
    "audio-classification": "sound",
    "automatic-speech-recognition": "sound",
    "text-generation": '"Once upon a time"',
    "fill-mask": 'f"Paris is the {pipe.tokenizer.mask_token} of France."',
    "question-answering": 'question="Where is the tower?", context="The tower is in Paris."',
}
_IMAGE = ("from PIL import Image", 'image = Image.new("RGB", (224, 224))  # or Image.open("photo.jpg")')
_SOUND = (
    "import numpy as np",
    'sound = np.zeros(16000, dtype="float32")  # a second of silence; with ffmpeg "speech.wav"',
)
_MADE = {
    "image-classification": _IMAGE,
    "image-segmentation": _IMAGE,
    "audio-classification": _SOUND,
    "automatic-speech-recognition": _SOUND,
}
"""How an input is made that cannot be written down: what is imported, and a line."""


def usage(summary: RunSummary, model_id: str) -> str:
    """
    The lines of Python that load a model and call it; none for a task or an adapter that there is no snippet for.

    Args:
        summary ([`RunSummary`]): of the run.
        model_id (`str`): what the snippet loads.
    """
    task, image = summary.task or "", summary.task in ("image-classification", "image-segmentation")
    if task == "sentence-similarity" and not summary.adapter:
        return _similarity(model_id)
    if task not in _INPUTS or (summary.adapter and (task not in _AUTO_CLASSES or summary.base_model is None)):
        return ""
    imports, lines = ([line] for line in _MADE[task]) if task in _MADE else ([], [])
    if summary.adapter and summary.base_model:
        kind, processor = _AUTO_CLASSES[task], "image_processor" if image else "tokenizer"
        # Neither the base model nor the adapter knows what the labels are called, and a base may have a head for others.
        names = dict(enumerate(summary.labels))
        labels = f", id2label={names}, ignore_mismatched_sizes=True" if names else ""
        imports = ["from peft import PeftModel", *imports, f"from transformers import {kind}, pipeline"]
        lines += [
            f'model = {kind}.from_pretrained("{summary.base_model.name}"{labels})',
            f'model = PeftModel.from_pretrained(model, "{model_id}")',
            f'pipe = pipeline("{task}", model=model, {processor}="{model_id}")',
        ]
    else:
        imports.append("from transformers import pipeline")
        lines.append(f'pipe = pipeline("{task}", model="{model_id}")')
    return "\n".join([*imports, "", *lines, f"print(pipe({_INPUTS[task]}))"])


def _similarity(model_id: str) -> str:
    return "\n".join(
        (
            "from sentence_transformers import SentenceTransformer",
            "",
            f'model = SentenceTransformer("{model_id}")',
            'embeddings = model.encode(["A man plays a guitar.", "Somebody makes music.", "It is raining."])',
            "print(model.similarity(embeddings, embeddings))",
        )
    )
