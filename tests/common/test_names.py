import pytest

from ftp_hf.common.names import layers_of


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
