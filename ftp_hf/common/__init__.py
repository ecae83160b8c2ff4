"""
What several packages need and none of them owns: replacing files, plain records, what may be told in public.

No module here imports another one, of this package or of `ftp_hf`: this is the ground. Nothing here knows of models,
optimizers or runs.
"""
