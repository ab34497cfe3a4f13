"""Evaluation: win rates between models, judges, benchmarks and the sheet of one run."""
