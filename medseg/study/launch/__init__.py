"""Engines: where the workers of a study run. Each maps the same worker elsewhere and decides nothing else."""
