"""
What several packages need and none of them owns: names and figures as they are written, files and plain records, what may be
said in public, what processes say to each other, and what holds for as long as a block lasts.

No module here imports another one, of this package or of `ftp_hf`: this is the ground. Nothing here knows of optimizers,
anchors or methods.
"""
