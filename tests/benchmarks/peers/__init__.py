"""One file per contestant of a benchmark; each runs as a process of its own, some in an environment of their own."""
