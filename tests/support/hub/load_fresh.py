"""Load a model from the Hub as anybody would, without ftp_hf: `load_fresh.py text|vision|adapter REPO_ID OUTPUT`."""

import sys

import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

from tests.support.hub.models import image, text

sys.modules["ftp_hf"] = None  # importing it is an error
kind, repo, output = sys.argv[1:]
torch.set_num_threads(1)
if kind == "vision":
    model = AutoModelForImageClassification.from_pretrained(repo)
    inputs = AutoImageProcessor.from_pretrained(repo)(image(), return_tensors="pt")
    answer = pipeline("image-classification", model=repo)(image(), top_k=1)
else:
    # With an adapter, transformers loads the base model that the adapter names.
    model = AutoModelForSequenceClassification.from_pretrained(repo)
    inputs = AutoTokenizer.from_pretrained(repo)(text(), return_tensors="pt")
    answer = pipeline("text-classification", model=repo)(text(), top_k=1)
with torch.no_grad():
    logits = model.eval()(**inputs).logits
torch.save({"logits": logits, "label": answer[0]["label"]}, output)
