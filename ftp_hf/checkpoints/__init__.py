"""Folders of checkpoints on disk: which are whole, which are damaged, and whose run may write there. No tensors, no Trainer."""
