"""Studies: a grid of runs declared in one file, each run done once whatever dies on the way.

``study.yaml`` (spec) -> cells (grid) -> keys (key) -> the ledger, from which any number of workers claim runs.
"""
