"""The snippet of a model card that loads the model."""

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
_PROCESSORS = {
    "image-classification": ("image_processor",),
    "image-segmentation": ("image_processor",),
    "audio-classification": ("feature_extractor",),
    "automatic-speech-recognition": ("tokenizer", "feature_extractor"),
}
"""What a pipeline is told of, beside a model that is no name; of the others it is the tokenizer."""
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
_PAIR = '{"text": "A man plays a guitar.", "text_pair": "Somebody makes music."}'
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
    task = summary.task or ""
    if task == "sentence-similarity" and not summary.adapter:
        return _similarity(model_id)
    if task not in _INPUTS or (summary.adapter and (task not in _AUTO_CLASSES or summary.base_model is None)):
        return ""
    imports, lines = ([line] for line in _MADE[task]) if task in _MADE else ([], [])
    # A pipeline tells the likeliest class of a text, unless it is asked for all of them.
    several = task == "text-classification" and summary.problem_type == "multi_label_classification"
    top = ", top_k=None" if several else ""
    if summary.adapter and summary.base_model:
        kind = _AUTO_CLASSES[task]
        processors = "".join(f', {processor}="{model_id}"' for processor in _PROCESSORS.get(task, ("tokenizer",)))
        imports = ["from peft import PeftModel", *imports, f"from transformers import {kind}, pipeline"]
        lines += [
            f'model = {kind}.from_pretrained("{summary.base_model.name}"{_head(summary)})',
            f'model = PeftModel.from_pretrained(model, "{model_id}")',
            f'pipe = pipeline("{task}", model=model{processors}{top})',
        ]
    else:
        imports.append("from transformers import pipeline")
        lines.append(f'pipe = pipeline("{task}", model="{model_id}"{top})')
    is_pair = task == "text-classification" and "second_text_column" in summary.hyperparameters
    return "\n".join([*imports, "", *lines, f"print(pipe({_PAIR if is_pair else _INPUTS[task]}))"])


def _head(summary: RunSummary) -> str:
    """What neither the base model nor the adapter knows: how the labels are called. A base may have a head for others."""
    if not summary.labels:
        return ""
    kind = f', problem_type="{summary.problem_type}"' if summary.problem_type else ""
    return f", id2label={dict(enumerate(summary.labels))}{kind}, ignore_mismatched_sizes=True"


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
