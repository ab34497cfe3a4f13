"""Tests of the boards outside a browser."""
