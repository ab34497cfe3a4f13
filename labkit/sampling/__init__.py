"""The one sampling engine of the lab: labeling, evaluation, best-of-n and PPO all draw from here.

engine.py       `sample`, the one door; request.py: what is asked; choice.py: how a token is drawn; stops.py: where it ends
steps.py        cached steps; cache.py: their keys and values
replayed.py     steps that CUDA replays; fixed.py: their keys and values
plain.py        the library's `generate`, for other models; remote.py: vLLM
completions.py  from prompts to completions with provenance; best of n

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
