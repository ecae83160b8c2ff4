"""Pre-trained models that travel in the package index, made into folders that `from_pretrained` loads."""
