import pytest

from ftp_hf.common.names import layer_of


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("bert.encoder.layer.10.output.dense.weight", "layer.10"),
        ("base_model.model.bert.encoder.layer.1.query.lora_A.default.weight", "layer.1"),
        ("vit.embeddings.patch_embeddings.projection.weight", "embeddings"),
        ("vit.layernorm.weight", "layernorm"),
        ("0.weight", "0"),
    ],
)
def test_layers(name, layer):
    assert layer_of(name) == layer
