"""vLLM as an engine, for models that are too large to sample here: in this process, or on a server through TRL's client.

    sample(served("http://gpu:8000"), prompts, ...)          # `vllm serve MODEL --logprobs-mode processed_logprobs`
    complete(local("Qwen/Qwen2.5-7B"), tokenizer, prompts)   # vLLM in this process

The lab's own rule says where a response ends: vLLM is asked to stop at the single tokens that end one, and what it drew
beyond a longer stop is cut here. Its random numbers are its own, one seed per request; a seed gives the same response
again on the same server, but not the one that the lab's engine would draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.errors import ModelError
from labkit.sampling.choice import Sampled, cut
from labkit.sampling.request import SamplingRequest
from labkit.sampling.stops import Stops

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["LocalVLLM", "ServedVLLM", "local", "served"]

AT_ONCE = 64  # requests under way; the server batches them as they come
MISSING = "pip install 'trl[vllm]' (Linux with a GPU), or sample with a model of transformers."


def _rules(stops: Stops) -> dict[str, Any]:
    """What vLLM is told about ends: these tokens, and no other that its own configuration may name."""
    single = [stops.eos_id, *(s[0] for s in stops.sequences if len(s) == 1)]
    return {"ignore_eos": True, "stop_token_ids": single}


@dataclass
class ServedVLLM:
    """A vLLM server behind TRL's client (`trl.generation.vllm_client.VLLMClient`).

    client: anything with that class's `generate`. The server must report log-probabilities of what it samples from
    (`--logprobs-mode processed_logprobs`), or they hold at temperature 1 only.
    """

    client: Any
    name: str
    context: int | None = None

    def draw(self, asked: SamplingRequest) -> list[Sampled]:
        """One request per prompt, since a request has one seed."""

        def ask(prompt: Sequence[int], seed: int) -> dict[str, Any]:
            return self.client.generate(
                [list(prompt)],
                temperature=asked.temperature,
                max_tokens=asked.max_new_tokens,
                logprobs=0,
                generation_kwargs={"seed": seed, **_rules(asked.stops)},
            )

        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(ask, asked.prompts, asked.seeds))
        ids = [a["completion_ids"][0] for a in answers]
        return cut(ids, [[token[0] for token in a["logprobs"][0]] for a in answers], asked.stops)

    def follow(self, policy: PreTrainedModel) -> None:
        """Give the server this policy's weights (after `client.init_communicator`), as TRL's trainers do."""
        self.client.update_model_params(policy)


@dataclass
class LocalVLLM:
    """vLLM in this process. llm: a `vllm.LLM`; parameters: `vllm.SamplingParams`. Its weights stay as they were loaded."""

    llm: Any
    parameters: Callable[..., Any]
    name: str
    context: int | None = None

    def draw(self, asked: SamplingRequest) -> list[Sampled]:
        shared = {"temperature": asked.temperature, "max_tokens": asked.max_new_tokens, "logprobs": 0, **_rules(asked.stops)}
        parameters = [self.parameters(seed=seed, **shared) for seed in asked.seeds]
        given = [{"prompt_token_ids": list(p)} for p in asked.prompts]
        drawn = [out.outputs[0] for out in self.llm.generate(given, parameters, use_tqdm=False)]
        ids = [list(d.token_ids) for d in drawn]
        logprobs = [
            [at[token].logprob for token, at in zip(d.token_ids, d.logprobs, strict=True)] for d in drawn
        ]  # at each place a dict by token
        return cut(ids, logprobs, asked.stops)


def served(url: str, *, context: int | None = None) -> ServedVLLM:
    """The engine of a running server; raises ModelError where TRL's client or the server is missing."""
    try:
        from trl.generation.vllm_client import VLLMClient

        client = VLLMClient(base_url=url)
    except ImportError as error:
        raise ModelError(f"A vLLM server needs TRL's client, and that needs vLLM: {error} {MISSING}") from error
    except ConnectionError as error:
        raise ModelError(f"No vLLM server answers at {url}; start one with `vllm serve MODEL`, or correct the address.") from error
    return ServedVLLM(client, name=client.model, context=context)


def local(path: str, **options: Any) -> LocalVLLM:
    """vLLM in this process on a folder or hub name; options go to `vllm.LLM`. Raises ModelError where vLLM is missing."""
    try:
        import vllm
    except ImportError as error:
        raise ModelError(f"vLLM is not installed; {MISSING}") from error
    llm = vllm.LLM(path, **{"logprobs_mode": "processed_logprobs", **options})
    return LocalVLLM(llm, vllm.SamplingParams, name=path, context=llm.llm_engine.model_config.max_model_len)
