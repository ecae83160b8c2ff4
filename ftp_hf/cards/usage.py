"""The snippet of a model card that loads the model."""

import json

from ftp_hf.runs.summary import RunSummary

__all__ = ["usage"]

_AUTO_CLASSES = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "image-classification": "AutoModelForImageClassification",
    "image-segmentation": "AutoModelForSemanticSegmentation",
    "audio-classification": "AutoModelForAudioClassification",
    "automatic-speech-recognition": "AutoModelForSpeechSeq2Seq",
    "text-generation": "AutoModelForCausalLM",
}
_LISTENERS = {
    "audio-classification": ("AutoFeatureExtractor", "feature_extractor=processor"),
    "automatic-speech-recognition": (
        "AutoProcessor",
        "tokenizer=processor.tokenizer, feature_extractor=processor.feature_extractor",
    ),
}
"""What prepares sounds: with a model object, a pipeline does not take a feature extractor by its name."""
_TEXT = "a text like those it was trained on"
_INPUTS = {
    "text-classification": f'"{_TEXT}"',
    "token-classification": f'"{_TEXT}"',
    "image-classification": "image",
    "image-segmentation": "image",
    "audio-classification": "sound",
    "automatic-speech-recognition": "sound",
    "text-generation": f'"{_TEXT}"',
    "fill-mask": 'f"Paris is the {pipe.tokenizer.mask_token} of France."',
    "question-answering": 'question="Where is the tower?", context="The tower is in Paris."',
}
_PAIR = f'{{"text": "{_TEXT}", "text_pair": "the text that goes with it"}}'
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
_ADAPTED = (*_AUTO_CLASSES, "sentence-similarity")
"""The tasks with a snippet for adapters."""


def usage(summary: RunSummary, model_id: str) -> str:
    """The lines of Python that load a model and call it; empty for a task or an adapter without a snippet."""
    task, image = summary.task or "", summary.task in ("image-classification", "image-segmentation")
    if summary.adapter and (task not in _ADAPTED or summary.base_model is None):
        return ""
    if task == "sentence-similarity":
        return _similarity(summary, model_id)
    if task not in _INPUTS:
        return ""
    imports, lines = ([line] for line in _MADE[task]) if task in _MADE else ([], [])
    # A pipeline returns only the likeliest class of a text, unless it is asked for all of them.
    several = task == "text-classification" and summary.problem_type == "multi_label_classification"
    top = ", top_k=None" if several else ""
    if summary.adapter and summary.base_model:
        kind = _AUTO_CLASSES[task]
        listener, prepares = _LISTENERS.get(task, (None, f'{"image_processor" if image else "tokenizer"}="{model_id}"'))
        classes = ", ".join([kind, *([listener] if listener else []), "pipeline"])
        imports = ["from peft import PeftModel", *imports, f"from transformers import {classes}"]
        lines += [
            f'model = {kind}.from_pretrained("{summary.base_model.name}"{_head(summary)})',
            f'model = PeftModel.from_pretrained(model, "{model_id}")',
            *([f'processor = {listener}.from_pretrained("{model_id}")'] if listener else []),
            f'pipe = pipeline("{task}", model=model, {prepares}{top})',
        ]
    else:
        imports.append("from transformers import pipeline")
        lines.append(f'pipe = pipeline("{task}", model="{model_id}"{top})')
    return "\n".join([*imports, "", *lines, f"print(pipe({_input(summary, task)}))"])


def _input(summary: RunSummary, task: str) -> str:
    """What the model is called with, in the form that it was trained on where that is known: no row of its data."""
    if task == "text-classification" and "second_text_column" in summary.hyperparameters:
        return _PAIR
    if task == "text-generation" and (template := summary.hyperparameters.get("template")):
        prompt = template.removesuffix("{answer}").rstrip().replace("{prompt}", "a prompt like those it was trained on")
        return json.dumps(prompt, ensure_ascii=False)
    return _INPUTS[task]


def _head(summary: RunSummary) -> str:
    """What neither the base model nor the adapter knows: the names of the labels. A base model may have a head for others."""
    if not summary.labels:
        return ""
    kind = f', problem_type="{summary.problem_type}"' if summary.problem_type else ""
    return f", id2label={dict(enumerate(summary.labels))}{kind}, ignore_mismatched_sizes=True"


def _similarity(summary: RunSummary, model_id: str) -> str:
    lines = [f'model = SentenceTransformer("{model_id}")']
    if summary.adapter and summary.base_model:
        lines = [
            f'model = SentenceTransformer("{summary.base_model.name}")',
            f'PeftModel.from_pretrained(model, "{model_id}")  # which puts the adapter into it',
        ]
    return "\n".join(
        (
            *(["from peft import PeftModel"] if summary.adapter else []),
            "from sentence_transformers import SentenceTransformer",
            "",
            *lines,
            'embeddings = model.encode(["A man plays a guitar.", "Somebody makes music.", "It is raining."])',
            "print(model.similarity(embeddings, embeddings))",
        )
    )
