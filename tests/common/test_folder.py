from pathlib import Path

import transformers.trainer
import transformers.trainer_jit_checkpoint
import transformers.trainer_utils

from ftp_hf.common.folder import CHECKPOINT, INCOMPLETE, TRAINER_STATE


def test_names_that_transformers_gives():
    assert transformers.trainer.TRAINER_STATE_NAME == TRAINER_STATE
    assert f"{transformers.trainer_utils.PREFIX_CHECKPOINT_DIR}-" == CHECKPOINT
    assert INCOMPLETE in Path(transformers.trainer_jit_checkpoint.__file__).read_text(encoding="utf-8")
