"""Prompts, demonstrations and comparisons from anywhere, and their preparation as in the paper."""
