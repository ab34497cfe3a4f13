"""Speed and memory of the lab beside its peers: the same work, in turns, in one run.

`make bench` measures on the CPU, `python -m tests.benchmarks.gpu` on one GPU.
"""
