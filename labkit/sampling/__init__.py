"""The one sampling engine of the lab: labeling, evaluation, best-of-n and PPO all draw from here.

    model, tokenizer = load_policy(path), load_tokenizer(path)                                    # labkit.models
    groups = complete(model, tokenizer, prompts, n=4, seed=0, stop=["\\n"])     # labkit.types.Prompt -> Completion
    best = best_of_n(groups, lambda completions: [-len(c.text) for c in completions])

`sample` takes token ids and a seed for each. An engine of one's own (`Engine`) stands where a model does.
"""

from labkit.sampling.choice import Sampled
from labkit.sampling.completions import best_of_n, complete
from labkit.sampling.engine import Engine, sample
from labkit.sampling.request import SamplingRequest

__all__ = ["Engine", "Sampled", "SamplingRequest", "best_of_n", "complete", "sample"]
