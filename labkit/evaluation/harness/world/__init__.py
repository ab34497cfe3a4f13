"""The world's miniature benchmarks as tasks of lm-eval, for the models of a run and as examples of tasks of your own."""
