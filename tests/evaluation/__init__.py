"""Tests of labkit.evaluation."""
