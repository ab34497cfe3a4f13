"""Tasks of lm-eval that the lab brings for benchmarks of the paper which lm-eval lacks; each reads a file of local data."""
