"""Tests of labkit.labels."""
