"""
What trains: from a config to the evidence of every run, interrupted and resumed. No statistics and no pages. Adding a
method is an entry in `methods` and its mixin in [`~ftp_hf.baselines`]; what a report knows of it by its name is in
`report.style` (colour and mark) and `report.sections` (what its costs leave out, and whether it learns from validation data).

`ftp_hf.compare` has the names for others, [`ComparisonConfig`] and [`compare`]; to import them takes seconds, so that it
happens when they are asked for.
"""
