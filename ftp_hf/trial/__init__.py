"""
A trial that a decision can rest on: a folder to begin with ([`ftp_hf.trial.start`]), and the page for the decision, filled in
([`ftp_hf.trial.decision`]).
"""
