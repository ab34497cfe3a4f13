"""Tests of the batch floor: parameters, execution, pipeline, sweep, report."""
