"""
Fine-tune an encoder of sentences on pairs with scores, plainly or with Fast Trainable Projection, and measure on ID and OOD
data, and on what it should retain, how the similarities of its embeddings rank with the scores.

    python examples/sentence_similarity.py --config examples/configs/sts_embeddings.yaml --method ftp
    accelerate launch examples/sentence_similarity.py --config examples/configs/sts_embeddings.yaml --method plain
"""

from dataclasses import dataclass

from finetuning import ScriptArguments, finetune, parse_arguments

from ftp_hf.tasks.similarity import SimilarityOptions, SimilarityTask


@dataclass
class SimilarityArguments(SimilarityOptions, ScriptArguments):
    """The options of all examples, and those of pairs of sentences."""


def main() -> None:
    script, training = parse_arguments(SimilarityArguments, SimilarityTask)
    finetune(script, training, SimilarityTask)


if __name__ == "__main__":
    main()
