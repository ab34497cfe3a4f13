"""The one sampling engine of the lab: labeling, evaluation, best-of-n and PPO all draw from here."""

from labkit.sampling.choice import Sampled
from labkit.sampling.completions import best_of_n, complete
from labkit.sampling.engine import Engine, sample
from labkit.sampling.request import SamplingRequest

__all__ = ["Engine", "Sampled", "SamplingRequest", "best_of_n", "complete", "sample"]
