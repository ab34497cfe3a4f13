"""Tests of labkit.data."""
