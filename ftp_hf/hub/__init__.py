"""Finished runs on the Hub: pushed as versions, with their history and the way back. No torch: files are pushed as they are."""

from .errors import HubError
from .versions import Version, history, push_run, rollback

__all__ = ["HubError", "Version", "history", "push_run", "rollback"]
