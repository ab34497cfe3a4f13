"""Every engine keeps one contract: where a response ends, what a seed decides, and which log-probabilities it records.

vLLM itself is not here. Stand-ins answer its documented calls with the toy model: a `vllm` module, and a server that
TRL's own client talks to.
"""

import json
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from transformers import AutoModelForCausalLM

from labkit.errors import ModelError
from labkit.models import load_policy, packed_logits, response_logprobs
from labkit.sampling import complete, engine, sample, steps
from labkit.sampling.remote import local, served
from tests.toy import END, NumberTokenizer, save_toy, toy_prompts, toy_rows

pytestmark = pytest.mark.slow

ENGINES = ["cached", "static", "generate", "vllm here", "vllm served"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_toy(tmp_path_factory.mktemp("toy") / "m", spread=0.15)


@pytest.fixture
def make(folder, monkeypatch):
    """Makes an engine by name."""
    servers = []

    def build(name: str):
        model = load_policy(folder, device="cpu")
        if name == "generate":
            return AutoModelForCausalLM.from_pretrained(folder).eval()
        if name == "static":
            monkeypatch.setattr(engine, "graphs_pay", lambda device: True)
        if name == "vllm here":
            monkeypatch.setitem(sys.modules, "vllm", fake_vllm(model))
            return local(str(folder))
        if name == "vllm served":
            monkeypatch.setattr("trl.generation.vllm_client.is_vllm_available", lambda *_, **__: True)
            servers.append(fake_server(model))
            return served(f"http://127.0.0.1:{servers[0].server_port}")
        return model

    yield build
    for server in servers:
        server.shutdown()
        server.server_close()


@torch.no_grad()
def answer(toy, given, *, temperature, max_tokens, seed, stop_token_ids, ignore_eos, **_):
    """What vLLM does for one request: it draws until a stop token, which it keeps. (ids, log-probabilities)"""
    assert ignore_eos, "the model's own configuration must not end a response"
    generator, ids, logprobs = torch.Generator().manual_seed(seed), [], []
    while len(ids) < max_tokens and not (ids and ids[-1] in stop_token_ids):
        now = (packed_logits(toy, [[*given, *ids]])[-1].float() / (temperature or 1.0)).log_softmax(-1)
        ids.append(int(torch.multinomial(now.exp(), 1, generator=generator)) if temperature else int(now.argmax()))
        logprobs.append(float(now[ids[-1]]))
    return ids, logprobs


def fake_vllm(model):
    """A module with `LLM` and `SamplingParams` as vLLM documents them."""
    space = types.SimpleNamespace

    class LLM:
        def __init__(self, path, **options):
            assert options["logprobs_mode"] == "processed_logprobs"
            self.llm_engine = space(model_config=space(max_model_len=64))

        def generate(self, prompts, sampling_params, use_tqdm=True):
            found = []
            for prompt, asked in zip(prompts, sampling_params, strict=True):
                ids, logprobs = answer(model, prompt["prompt_token_ids"], **vars(asked))
                places = [{t: space(logprob=x)} for t, x in zip(ids, logprobs, strict=True)]
                found.append(space(outputs=[space(token_ids=tuple(ids), logprobs=places)]))
            return found

    module = types.ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, space
    return module


def fake_server(model):
    """A server with the three addresses that TRL's client asks for sampling."""

    class Handler(BaseHTTPRequestHandler):
        def reply(self, body):
            content = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self):
            self.reply({"data": [{"id": "toy"}]})

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/completions" and len(asked["prompt"]) == 1 and asked["top_p"] == 1.0
            ids, logprobs = answer(model, asked["prompt"][0], **asked)
            told = {"tokens": [f"token_id:{t}" for t in ids], "token_logprobs": logprobs, "top_logprobs": [None] * len(ids)}
            self.reply({"choices": [{"prompt_token_ids": asked["prompt"][0], "token_ids": ids, "logprobs": told}]})

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def draw(model, prompts, **options):
    return sample(
        model, prompts, **{"max_new_tokens": 12, "eos_id": END, "seeds": list(range(len(prompts))), **options}
    )


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_keeps_the_contract(name, make, folder):
    model, prompts = make(name), toy_rows(24, 2, 8)
    drawn = draw(model, prompts)
    assert {s.finished for s in drawn} == {True, False}
    for s in drawn:
        assert s.finished == (s.ids[-1] == END) and s.ids.count(END) == s.finished
        assert len(s.ids) == len(s.logprobs) and (s.finished or len(s.ids) == 12)
    recorded = torch.tensor([x for s in drawn for x in s.logprobs])
    scored = response_logprobs(load_policy(folder, device="cpu"), prompts, [s.ids for s in drawn])
    assert torch.allclose(recorded, scored, atol=1e-4)
    assert [s.ids for s in draw(model, prompts[5:9], seeds=range(5, 9))] == [s.ids for s in drawn[5:9]]
    assert [s.ids for s in draw(model, prompts, seeds=range(100, 124))] != [s.ids for s in drawn]


@pytest.mark.parametrize("name", ENGINES)
def test_a_stop_ends_a_response_where_it_is_complete_and_nowhere_else(name, make):
    """With a stop a response is the one without it, up to the stop: nothing else may change."""
    model, prompts, tokenizer = make(name), toy_rows(24, 2, 8), NumberTokenizer()
    free = draw(model, prompts)
    texts = [f" {tokenizer.decode(s.ids)} " for s in free]
    pair = next(s.ids[2:4] for s in free if len(s.ids) > 5 and END not in s.ids[:5])
    single = next(s.ids[1] for s in free if s.ids[1] not in (END, *pair))
    for stop in ([pair], [[single]], [pair, f" {single} "]):
        for whole, text, held in zip(free, texts, draw(model, prompts, stop=stop, tokenizer=tokenizer), strict=True):
            ends = [n for n in range(1, len(whole.ids) + 1) if ended(whole.ids[:n], stop, tokenizer)]
            assert held.ids == whole.ids[: ends[0] if ends else None], text
            assert held.finished == bool(ends) and len(held.logprobs) == len(held.ids)


def ended(ids, stop, tokenizer):
    tails = [list(s) for s in stop if not isinstance(s, str)]
    return ids[-1] == END or any(ids[-len(t) :] == t for t in tails) or any(
        s in tokenizer.decode(ids) for s in stop if isinstance(s, str)
    )


@pytest.mark.parametrize("every", [3, 100])
@pytest.mark.parametrize("graphs", [False, True])
def test_looking_seldom_changes_no_stop(folder, monkeypatch, every, graphs):
    model, prompts, tokenizer = load_policy(folder, device="cpu"), toy_rows(24, 2, 8), NumberTokenizer()
    stop = {"stop": [draw(model, prompts)[0].ids[1:3], " 7 "], "tokenizer": tokenizer}
    expected = draw(model, prompts, **stop)
    monkeypatch.setattr(steps, "ASK_EVERY", {"cpu": every})
    monkeypatch.setattr(engine, "graphs_pay", lambda device: graphs)
    assert [(s.ids, s.finished) for s in draw(model, prompts, **stop)] == [(s.ids, s.finished) for s in expected]


def test_the_text_ends_before_a_stop_string_and_the_ids_after_it(folder):
    model, tokenizer, prompts = load_policy(folder, device="cpu"), NumberTokenizer(), toy_prompts(30)
    groups = complete(model, tokenizer, prompts, max_new_tokens=20, stop=[" 7 "])
    ended_so = [g[0] for g in groups if g[0].finished and g[0].token_ids[-1] != END]
    assert ended_so
    for one in ended_so:
        assert " 7 " not in one.text and " 7 " in tokenizer.decode(list(one.token_ids))
        assert one.sampling["stop"] == [" 7 "]


def test_completions_of_a_server_name_it(make):
    one = complete(make("vllm here"), NumberTokenizer(), toy_prompts(2), max_new_tokens=4)[0][0]
    assert one.sampling["weights"] == one.model and one.model.endswith("m")


def test_without_vllm_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match="pip install"):
        local("x")
    with pytest.raises(ModelError, match="pip install"):
        served("http://127.0.0.1:1")
