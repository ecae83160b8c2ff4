"""The model card of a run, made of its [`RunSummary`]. No torch, and nothing of the Hub but its metadata."""
