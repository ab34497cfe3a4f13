"""The closed world: a small English of known truth, with its corpus, prompts, judge, labelers and base models."""
