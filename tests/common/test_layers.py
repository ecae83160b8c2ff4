import pytest

from ftp_hf.common.layers import layers_of


@pytest.mark.parametrize(
    ("name", "layer", "within"),
    [
        ("bert.encoder.layer.10.output.dense.weight", "layer.10", "output.dense.weight"),
        ("base_model.model.bert.encoder.layer.1.query.lora_A.default.weight", "layer.1", "query.lora_A.default.weight"),
        ("vit.embeddings.patch_embeddings.projection.weight", "embeddings", "patch_embeddings.projection.weight"),
        ("vit.layernorm.weight", "layernorm", "weight"),
        ("0.model.encoder.layer.3.output.dense.weight", "layer.3", "output.dense.weight"),
        ("0.model.embeddings.word_embeddings.weight", "embeddings", "word_embeddings.weight"),
        ("2.linear.weight", "linear", "weight"),
        ("0.weight", "0", "weight"),
        ("layer.0", "layer.0", "0"),
    ],
)
def test_layers(name, layer, within):
    assert layers_of([name]) == {name: (layer, within)}


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        (["model.encoder.layers.0.fc1.weight", "model.decoder.layers.0.fc1.weight"], ["encoder.layers.0", "decoder.layers.0"]),
        (["encoder.block.0.k.weight", "encoder.block.1.k.weight", "decoder.block.0.k.weight"], ["encoder.block.0", "encoder.block.1", "decoder.block.0"]),
        (["text_model.encoder.layers.0.q", "vision_model.encoder.layers.0.q"], ["text_model.layers.0", "vision_model.layers.0"]),
        (["text.embeddings.word.weight", "vision.embeddings.patch.weight"], ["text.embeddings", "vision.embeddings"]),
        (["layers.0.q.weight", "decoder.layers.0.q.weight"], ["layers.0", "decoder.layers.0"]),
        (["0.0.weight", "1.0.weight", "2.linear.weight"], ["0.0", "1.0", "linear"]),
        (["model.encoder.conv1.weight", "model.encoder.layers.0.q.weight"], ["encoder", "layers.0"]),
    ],
    ids=["whisper", "of-other-depths", "above", "without-numbers", "nested", "of-numbered-modules", "one-stack"],
)  # fmt: skip
def test_layers_of_one_name_are_told_apart_by_their_stack(names, layers):
    assert [layer for layer, _ in layers_of(names).values()] == layers


def below(layers, *parts):
    return [f"{layer}.{part}.weight" for layer in layers for part in parts]


STAGES = ["stages.0.layers.0", "stages.1.layers.0", "stages.1.layers.1"]


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        (below(STAGES, "attention.q", "norm", "mlp.fc1"), STAGES),
        ([*below(STAGES, "attention.q", "norm", "mlp.fc1"), *below(["stages.0"], "downsample.norm")], [*STAGES, "stages.0"]),
        ([*below(STAGES, "0.conv", "1.conv"), *below(["stages.0.layers.0"], "shortcut.conv")], STAGES),
        (below(["encoder.blocks.0.0", "encoder.blocks.0.1", "encoder.blocks.1.0"], "attention.q"), ["blocks.0.0", "blocks.0.1", "blocks.1.0"]),
        ([*below(["block.0.layer.0"], "attention.q", "norm"), *below(["block.0.layer.1"], "dense.wi", "norm")], ["block.0"]),
        (below(["layers.0", "layers.1"], "0", "2"), ["layers.0", "layers.1"]),
        ([*below(["layers.0"], "q", "k", "gate"), *below(["layers.0.experts.0", "layers.0.experts.1"], "w1.base", "w2.base")], ["layers.0"]),
        (below(["layers.0.mlp.experts.0", "layers.0.mlp.experts.1"], "w1.base"), ["layers.0"]),
        (below(["groups.0.layers.0", "groups.1.layers.0"], "attention.q"), ["groups.0", "groups.1"]),
    ],
    ids=["stages", "beside-blocks", "resnet", "no-name-between", "t5", "sequential", "experts", "experts-deeper", "one-each"],
)  # fmt: skip
def test_blocks_of_stages_are_the_layers(names, layers):
    found = layers_of(names)
    assert list(dict.fromkeys(layer for layer, _ in found.values())) == layers
    assert len({*found.values()}) == len(names)
