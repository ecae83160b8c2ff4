"""Folders of checkpoints on disk: which are whole, which are damaged, and whose run may write there. No tensors, no Trainer."""

from .lock import run_lock
from .whole import find_damage, has_optimizer_state, list_checkpoints, newest_whole

__all__ = ["find_damage", "has_optimizer_state", "list_checkpoints", "newest_whole", "run_lock"]
