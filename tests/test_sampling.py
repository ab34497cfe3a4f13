"""The engine samples what the model says: same as `generate`, independent of its neighbours, with exact log-probabilities."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, GenerationConfig, MistralConfig, MistralForCausalLM

from labkit.errors import DataError, SettingsError
from labkit.models import graphs, load_policy, model_hash, packed_logits, response_logprobs
from labkit.models.lean import lean
from labkit.sampling import best_of_n, complete, engine, sample, steps
from labkit.sampling.stops import Stops
from labkit.types import Completion, Prompt
from tests.toy import ARCHITECTURES, END, ROPE, SPECIALS, NumberTokenizer, save_toy, toy_prompts, toy_rows


@pytest.fixture(params=ARCHITECTURES)
def folder(request, tmp_path):
    return save_toy(tmp_path / request.param, request.param, spread=0.15)


def draw(model, prompts, **options):
    return sample(
        model, prompts, **{"max_new_tokens": 16, "eos_id": END, "seeds": list(range(len(prompts))), **options}
    )


@pytest.mark.parametrize("graphs", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_engine_equals_generate_token_for_token(folder, monkeypatch, graphs):
    monkeypatch.setattr(engine, "graphs_pay", lambda device: graphs)
    fast, plain = load_policy(folder, device="cpu"), AutoModelForCausalLM.from_pretrained(folder).eval()
    prompts = toy_rows(24, 1, 12) * 2
    for options in ({}, {"temperature": 0.7}, {"temperature": 0.0}, {"max_rows": 7}):
        a, b = draw(fast, prompts, **options), draw(plain, prompts, **options)
        assert [s.ids for s in a] == [s.ids for s in b]
        assert [s.finished for s in a] == [s.finished for s in b]
        for x, y in zip(a, b, strict=True):
            assert torch.allclose(torch.tensor(x.logprobs), torch.tensor(y.logprobs), atol=1e-4)


@pytest.mark.parametrize("graphs", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_sliding_window_that_a_response_outgrows_is_kept(tmp_path, monkeypatch, graphs):
    """Also where a prompt alone is longer, in scores as in samples, with the rows that generate samples beside it."""
    config = MistralConfig(**ROPE, num_key_value_heads=2, max_position_embeddings=64, sliding_window=7, **SPECIALS)
    torch.manual_seed(0)
    made = MistralForCausalLM(config)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.15 * torch.randn_like(p))
    made.save_pretrained(tmp_path / "windows")
    fast = load_policy(tmp_path / "windows", device="cpu")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "windows", attn_implementation="eager").eval()
    monkeypatch.setattr(engine, "graphs_pay", lambda device: graphs)
    prompts = toy_rows(16, 1, 12)
    a, b = draw(fast, prompts), draw(plain, prompts)
    assert [s.ids for s in a] == [s.ids for s in b] and max(len(s.ids) for s in a) > 7
    recorded, theirs = (torch.tensor([x for s in drawn for x in s.logprobs]) for drawn in (a, b))
    assert torch.allclose(recorded, theirs, atol=1e-4)
    assert torch.allclose(response_logprobs(fast, prompts, [s.ids for s in a]), theirs, atol=1e-4)


def test_the_plain_way_samples_the_policys_own_distribution(tmp_path):
    """Whatever its generation config asks for: penalties would change the very probabilities that are recorded."""
    model = AutoModelForCausalLM.from_pretrained(save_toy(tmp_path / "m", spread=0.15)).eval()
    prompts = toy_rows(12, 4, 12)
    expected = draw(model, prompts)
    asked = GenerationConfig(repetition_penalty=1.3, no_repeat_ngram_size=2, min_new_tokens=9, suppress_tokens=[5, 6, 7])
    model.generation_config = asked
    assert draw(model, prompts) == expected
    assert model.generation_config is asked


@pytest.mark.parametrize("every", [2, 5, 100])
def test_asking_seldom_who_has_ended_changes_nothing(folder, monkeypatch, every):
    """The path of accelerators, forced on a CPU: rows go on past their end until somebody looks."""
    model, prompts = load_policy(folder, device="cpu"), toy_rows(24, 1, 12) * 2
    at_once = draw(model, prompts)
    monkeypatch.setattr(steps, "ASK_EVERY", {"cpu": every})
    seldom = draw(model, prompts)
    assert [(s.ids, s.finished) for s in at_once] == [(s.ids, s.finished) for s in seldom]
    assert {s.finished for s in seldom} == {True, False} and len({len(s.ids) for s in seldom}) > 3
    recorded = [torch.tensor([x for s in drawn for x in s.logprobs]) for drawn in (at_once, seldom)]
    assert torch.allclose(*recorded, atol=1e-4)


class Waits(TorchDispatchMode):
    """Counts the operations for which the host must wait for an accelerator."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        self.count += function.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
        return function(*arguments, **(kwargs or {}))


def test_between_two_looks_the_host_never_waits(tmp_path, monkeypatch):
    model = load_policy(save_toy(tmp_path / "m"), device="cpu")
    monkeypatch.setattr(steps, "ASK_EVERY", {"cpu": 100})
    counts = []
    for tokens in (2, 20):
        with Waits() as waits:
            draw(model, toy_rows(6, 3, 4), max_new_tokens=tokens)
        counts.append(waits.count)
    assert counts[0] == counts[1]


class Captured:
    """A CUDA graph as the lab drives it, on a machine that has none; notes how it was captured."""

    modes: tuple = ()

    def capture_begin(self, pool, capture_error_mode):
        assert pool == "pool"
        Captured.modes += (capture_error_mode,)

    def capture_end(self):
        pass

    def replay(self):
        return "replayed"


@pytest.fixture
def captures(monkeypatch):
    """As if there were a GPU that records: what ran while it did, and how often unused memory was given back."""
    ran, given_back = [], []
    waits = SimpleNamespace(synchronize=lambda: None)
    for name, do in (("current_stream", lambda _: waits), ("stream", lambda _: nullcontext()), ("CUDAGraph", Captured)):
        monkeypatch.setattr(torch.cuda, name, do)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(1))
    monkeypatch.setattr(graphs, "_place", lambda device: SimpleNamespace(stream="stream", pool="pool"))
    monkeypatch.setattr(Captured, "modes", ())
    return ran, given_back


def test_recording_a_step_leaves_other_threads_alone(captures):
    """The thread that makes pretraining rows ready pins memory, which a capture in torch's default mode forbids every thread."""
    ran, _ = captures
    replay = graphs.recorded(lambda: ran.append(1), torch.device("cuda"))
    assert replay() == "replayed" and ran == [1] and Captured.modes == ("thread_local",)


def test_what_cannot_be_recorded_is_said_and_memory_is_tried_for_once_more(captures):
    ran, given_back = captures

    def short_of_memory():
        ran.append(1)
        if len(ran) == 1:
            raise torch.OutOfMemoryError("no memory")

    def asks():
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    assert graphs.recorded(short_of_memory, torch.device("cuda"))() == "replayed" and len(ran) == 2 and given_back == [1]
    with pytest.warns(UserWarning, match=r"cannot be recorded as a CUDA graph \(operation not permitted.*capturing\)"):
        assert graphs.recorded(asks, torch.device("cuda")) is None


def test_recorded_log_probabilities_are_those_of_scoring(folder):
    model = load_policy(folder, device="cpu")
    prompts = toy_rows(30, 1, 12)
    drawn = draw(model, prompts, temperature=1.3)
    recorded = torch.tensor([x for s in drawn for x in s.logprobs])
    scored = response_logprobs(model, prompts, [s.ids for s in drawn], temperature=1.3)
    assert torch.allclose(recorded, scored, atol=1e-4)


def test_responses_stop_at_the_first_end_token_and_say_whether_they_did(folder):
    drawn = draw(load_policy(folder, device="cpu"), toy_rows(200, 2, 6), max_new_tokens=24)
    assert {s.finished for s in drawn} == {True, False}
    for s in drawn:
        assert (END in s.ids) == s.finished and s.ids.count(END) <= 1
        assert (s.ids[-1] == END) == s.finished and (s.finished or len(s.ids) == 24)


def test_a_response_depends_on_its_seed_and_not_on_its_batch(folder):
    model = load_policy(folder, device="cpu")
    prompts = toy_rows(10, 1, 12)
    together = draw(model, prompts)
    alone = [draw(model, [p], seeds=[i])[0] for i, p in enumerate(prompts)]
    assert [s.ids for s in together] == [s.ids for s in alone]
    assert [s.ids for s in draw(model, prompts, seeds=range(100, 110))] != [s.ids for s in together]


def test_sampling_follows_the_models_own_distribution(folder):
    model = load_policy(folder, device="cpu")
    expected = packed_logits(model, [[5, 9]])[-1].softmax(-1).detach()
    drawn = draw(model, [[5, 9]] * 4000, max_new_tokens=1, seeds=range(4000), max_rows=4000)
    counts = torch.bincount(torch.tensor([s.ids[0] for s in drawn]), minlength=len(expected)) / 4000
    assert (counts - expected).abs().max() < 4 * (0.25 / 4000) ** 0.5


def test_errors_teach(tmp_path):
    model = load_policy(save_toy(tmp_path / "m"), device="cpu")
    with pytest.raises(DataError, match="empty"):
        draw(model, [])
    with pytest.raises(DataError, match="one seed per prompt"):
        draw(model, [[3]], seeds=[1, 2])
    with pytest.raises(DataError, match=r"Prompt 1 \(ids 3 3 .* has 60 tokens: .* context of 64; shorten the prompt to 48"):
        draw(model, [[3], [3] * 60])
    with pytest.raises(DataError, match=r'Prompt 0 \("4 4 4 4 4 4 4 4 \.\.\."\) has 60 tokens \(1 more'):
        complete(model, NumberTokenizer(), [Prompt("a", "4 " * 60), Prompt("b", "5 " * 60)], max_new_tokens=16)
    with pytest.raises(DataError, match="sample fewer tokens"):
        draw(model, [[3]], max_new_tokens=64)
    for temperature in (-1.0, float("nan"), float("inf")):
        with pytest.raises(SettingsError, match=f"temperature is {temperature}; give 0"):
            draw(model, [[3]], temperature=temperature)
    with pytest.raises(SettingsError, match="max_new_tokens is 0; a response has at least one token"):
        draw(model, [[3]], max_new_tokens=0)
    for stop, why in (([""], "is empty"), ("x", "give a list"), (["x"], "tokenizer=")):
        with pytest.raises(DataError, match=why):
            draw(model, [[3]], stop=stop)


def test_the_cheaper_gelu_is_the_same_function_and_is_taken_back(tmp_path):
    model = load_policy(save_toy(tmp_path / "m"), device="cpu")
    gelu, x = next(m for m in model.modules() if isinstance(m, torch.nn.GELU)), torch.linspace(-30, 30, 10001)
    expected = gelu(x)
    with torch.no_grad(), lean(model):
        assert type(gelu) is not torch.nn.GELU and torch.allclose(gelu(x), expected, atol=2e-6)
        assert torch.equal(gelu(x.bfloat16()), torch.nn.GELU(approximate="tanh")(x.bfloat16()))
    assert type(gelu) is torch.nn.GELU


class Counting(NumberTokenizer):
    """Counts the tokens that it turns into text."""

    tokens = 0

    def decode(self, ids, **options):
        Counting.tokens += len(ids)
        return super().decode(ids, **options)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["cached", "generate"])
def test_a_stop_string_costs_as_much_at_every_token(tmp_path, way):
    """Twice the tokens, twice the text that is looked at: a row is not read from its beginning each time."""
    folder = save_toy(tmp_path / "m", spread=0.15)
    model = load_policy(folder, device="cpu") if way == "cached" else AutoModelForCausalLM.from_pretrained(folder).eval()
    counts = []
    for tokens in (28, 56):
        Counting.tokens = 0
        drawn = draw(model, [[3, 4]] * 6, max_new_tokens=tokens, eos_id=10**6, stop=["x"], tokenizer=Counting())
        assert {len(s.ids) for s in drawn} == {tokens}
        counts.append(Counting.tokens)
    assert counts[1] < 2.6 * counts[0]


def text_of_bytes(ids):
    return bytes(ids).decode("utf-8", errors="replace")


@pytest.mark.parametrize("stop", [["\n\n"], ["é"], ["日本", "x"], ["zebra", [195, 40]], ["é, "]])
def test_a_stop_string_is_found_at_the_first_token_that_completes_it(stop):
    """Tokens are bytes here, so a letter may come in pieces. In one look or many: the same end as reading everything anew."""
    texts = ["naïve é, one\n\ntwo", "日本語 xx", "a zebra" * 3, "", "plain", "ééé" * 9, "日日本", "\n" * 40, "y" * 50 + "é"]
    stops = Stops.of(0, stop, text_of_bytes)
    strings, sequences = ([s for s in stop if isinstance(s, kind)] for kind in (str, list))
    for row in (list(text.encode()) for text in texts):
        for ids in (row, [*row, 0, 65, 66], [195, 40, *row]):
            ends = [
                n
                for n in range(1, len(ids) + 1)
                if ids[n - 1] == 0
                or any(ids[:n][-len(s) :] == s for s in sequences)
                or any(s in text_of_bytes(ids[:n]) for s in strings)
            ]
            assert stops.length(ids) == (ends[0] if ends else None)
            for n in range(1, len(ids) + 1):
                for since in (0, n - 1, n - 5):
                    if not stops.by_text(ids[: max(0, since)]):
                        assert stops.by_text(ids[:n], since=max(0, since)) == stops.by_text(ids[:n])


def test_completions_carry_their_provenance_and_best_of_n_picks_the_highest(tmp_path):
    model = load_policy(save_toy(tmp_path / "m", spread=0.1), device="cpu")
    prompts = toy_prompts(5)
    groups = complete(model, NumberTokenizer(), prompts, n=4, max_new_tokens=8, seed=7)
    assert [len(g) for g in groups] == [4] * 5
    one = groups[2][1]
    assert one.prompt_id == "p2" and one.sampling["temperature"] == 1.0 and len(one.model) == 12
    named = complete(model, NumberTokenizer(), prompts[:1], max_new_tokens=8, seed=7, name="sft")[0][0]
    assert named.model == "sft" and named.sampling["weights"] == one.model == model_hash(model)
    again = sample(model, [[int(w) for w in prompts[2].text.split()]], max_new_tokens=8, eos_id=END, seeds=[one.seed])
    assert tuple(again[0].ids) == one.token_ids
    longest = best_of_n(groups, lambda flat: torch.tensor([float(len(c.token_ids)) for c in flat]))
    assert all(
        isinstance(c, Completion) and len(c.token_ids) == max(len(d.token_ids) for d in g)
        for c, g in zip(longest, groups, strict=True)
    )
