"""Users of the Hub, folders of finished runs, and what there is to compare about them."""

import hashlib
import json
import random

TOKENS = {name: f"hf_{name[0] * 34}" for name in ("writer", "reader", "unknown")}
USERS = {TOKENS["writer"]: ("me", True), TOKENS["reader"]: ("me", False)}

PUSHED = {
    ".eval_results/digits.yaml",
    "README.md",
    "radii.png",
    "config.json",
    "model.safetensors",
    "pictures/logs.svg",
    "tokenizer.json",
    "tokenizer_config.json",
}
_KEPT_BACK = {
    ".env",
    "_training.lock",
    "checkpoint-20/model.safetensors",
    "checkpoint-20/optimizer.pt",
    "checkpoint-20/training_args.bin",
    "optimizer.pt",
    "rng_state.pth",
    "runs/Nov23/events.out.tfevents",
    "scheduler.pt",
    "trainer_state.json",
    "training.log",
    "training_args.bin",
}
_CARD = """---
pipeline_tag: text-classification
---
![radii](radii.png) <img width="5" src="pictures/logs.svg"> ![far](https://example.org/x.png) ![up](../up.png)
"""


def write_run(folder, seed=0):
    """A folder as a Trainer leaves it, with bytes instead of a model."""
    generator = random.Random(seed)  # noqa: S311
    for name in sorted(PUSHED | _KEPT_BACK):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(generator.randbytes(200_000 if name.endswith("safetensors") else 200))
    (folder / "README.md").write_text(_CARD)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text(json.dumps({"seed": seed}))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 20 + seed}))
    return folder


def write_results(folder):
    """What was measured: 97.4 % in distribution and 93.7 % out of it."""
    results = [
        {"data": "test", "kind": "id", "metrics": {"accuracy": {"0": 0.974}}},
        {"data": "blur", "kind": "ood", "metrics": {"accuracy": {"0": 0.937}}},
    ]
    (folder / "results.json").write_text(json.dumps({"name": "m", "method": "ftp", "seed": 0, "results": results}))


def write_rules(file, *rules):
    file.write_text(json.dumps({"rules": rules}))  # JSON is YAML
    return file


def hashes(folder):
    """Of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pushed(hub, repo="me/model", revision="main"):
    """What the Hub shows of a repository: the hash of every file, but for its own."""
    commit = hub.store.get(repo).resolve(revision)
    contents = {path: hub.store.objects.path(file.key).read_bytes() for path, file in commit.files.items()}
    return {path: hashlib.sha256(content).hexdigest() for path, content in contents.items() if path != ".gitattributes"}


def titles(hub, repo="me/model", revision="main"):
    """Of the commits, the oldest first, without the one that made the repository."""
    return [commit.title for commit in hub.store.get(repo).history(revision)][-2::-1]
