"""The table of hooks in `ftp_hf.trainer` says what the code does."""

import importlib
import inspect
import pkgutil
import re

import pytest
from transformers import Seq2SeqTrainer, Trainer

import ftp_hf.baselines
import ftp_hf.trainer
from ftp_hf.common.host import Host
from ftp_hf.trainer import FTPTrainerMixin, ModelCardMixin, PlainTrainer

ROW = re.compile(r"^\| `(\w+)` \| (\w+/\w+\.py) \| \S.* \|$", re.MULTILINE)
TABLE = ROW.findall(ftp_hf.trainer.__doc__)

OF_BASELINES = [getattr(ftp_hf.baselines, name) for name in ftp_hf.baselines.__all__ if name.endswith("TrainerMixin")]

every_mixin = pytest.mark.parametrize("mixin", [FTPTrainerMixin, *OF_BASELINES])


def file_of(cls):
    return "/".join(cls.__module__.split(".")[1:]) + ".py"


def hooks_of(cls):
    return [name for name, value in vars(cls).items() if inspect.isfunction(value) and hasattr(Trainer, name)]


def overrides():
    for package in (ftp_hf.trainer, ftp_hf.baselines):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            for cls in vars(module).values():
                is_ours = inspect.isclass(cls) and cls.__module__ == module.__name__
                if is_ours and issubclass(cls, (Trainer, Host)):
                    yield from ((hook, file_of(cls)) for hook in hooks_of(cls))


def test_the_table_is_complete_and_true():
    assert len(TABLE) == len(re.findall(r"^\| `", ftp_hf.trainer.__doc__, re.MULTILINE))
    assert sorted(TABLE) == sorted(overrides())


@every_mixin
def test_the_upper_row_calls_the_lower_one(mixin):
    base = Trainer if issubclass(mixin, ModelCardMixin) else PlainTrainer
    trainer = type(mixin.__name__.removesuffix("Mixin"), (mixin, base), {})
    for hook in {hook for hook, _ in TABLE}:
        called = [file_of(cls) for cls in trainer.__mro__ if cls.__module__.startswith("ftp_hf") and hook in vars(cls)]
        assert called == [file for name, file in TABLE if name == hook and file in called]


@every_mixin
def test_no_mixin_stands_behind_trainer(mixin):
    with pytest.raises(TypeError, match=rf"write class Behind\({mixin.__name__}, Seq2SeqTrainer\)"):
        type("Behind", (Seq2SeqTrainer, mixin), {})
    behind_ours = type("Behind", (PlainTrainer, mixin), {}).__mro__
    assert behind_ours.index(mixin) < behind_ours.index(Trainer)
