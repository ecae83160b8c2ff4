"""What a model is for, as the Hub's pipelines are called: from the mappings of transformers' auto classes."""

from collections.abc import Iterator, Mapping
from typing import Any

from transformers.models.auto import modeling_auto

__all__ = ["task_of"]

# Where a class is in two, the first: speech and images before the text that comes of them.
_TASKS = {
    "audio-classification": ("AUDIO_CLASSIFICATION",),
    "automatic-speech-recognition": ("CTC", "RNNT", "TDT", "SPEECH_SEQ_2_SEQ"),
    "text-to-audio": ("TEXT_TO_WAVEFORM", "TEXT_TO_SPECTROGRAM"),
    "video-classification": ("VIDEO_CLASSIFICATION",),
    "image-classification": ("IMAGE_CLASSIFICATION",),
    "image-segmentation": (
        "IMAGE_SEGMENTATION",
        "SEMANTIC_SEGMENTATION",
        "INSTANCE_SEGMENTATION",
        "UNIVERSAL_SEGMENTATION",
    ),
    "object-detection": ("OBJECT_DETECTION",),
    "zero-shot-object-detection": ("ZERO_SHOT_OBJECT_DETECTION",),
    "zero-shot-image-classification": ("ZERO_SHOT_IMAGE_CLASSIFICATION",),
    "depth-estimation": ("DEPTH_ESTIMATION",),
    "keypoint-detection": ("KEYPOINT_DETECTION",),
    "mask-generation": ("MASK_GENERATION",),
    "visual-question-answering": ("VISUAL_QUESTION_ANSWERING",),
    "document-question-answering": ("DOCUMENT_QUESTION_ANSWERING",),
    "image-text-to-text": ("IMAGE_TEXT_TO_TEXT",),
    "table-question-answering": ("TABLE_QUESTION_ANSWERING",),
    "text-classification": ("SEQUENCE_CLASSIFICATION",),
    "token-classification": ("TOKEN_CLASSIFICATION",),
    "question-answering": ("QUESTION_ANSWERING",),
    "multiple-choice": ("MULTIPLE_CHOICE",),
    "text2text-generation": ("SEQ_TO_SEQ_CAUSAL_LM",),
    "text-generation": ("CAUSAL_LM",),
    "fill-mask": ("MASKED_LM",),
}
# Of classes that transformers does not have: those of sentence-transformers, and those that come with a model.
_SUFFIXES = {
    "ForSequenceClassification": "text-classification",
    "ForImageClassification": "image-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForMaskedLM": "fill-mask",
    "ForAudioClassification": "audio-classification",
    "ForSemanticSegmentation": "image-segmentation",
    "ForObjectDetection": "object-detection",
    "SentenceTransformer": "sentence-similarity",
    "CrossEncoder": "text-ranking",
    "SparseEncoder": "feature-extraction",
}


def task_of(model_class: type) -> str | None:
    """
    The task of a model's class, such as `"text-classification"`; `None` where it is not known. A class that inherits one of
    transformers has its task.
    """
    known = {name: task for task, auto in reversed(_TASKS.items()) for name in _class_names(auto)}
    names = [base.__name__ for base in model_class.__mro__]
    guessed = (task for suffix, task in _SUFFIXES.items() if names[0].endswith(suffix))
    return next((known[name] for name in names if name in known), None) or next(guessed, None)


def _class_names(auto_classes: tuple[str, ...]) -> Iterator[str]:
    for auto in auto_classes:
        mapping: Mapping[str, Any] = getattr(modeling_auto, f"MODEL_FOR_{auto}_MAPPING_NAMES")
        for names in mapping.values():
            yield from (names,) if isinstance(names, str) else names
