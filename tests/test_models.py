"""Packed passes equal plain ones; a reward model comes back from disk with its bias, by plain transformers."""

import logging
import threading

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification, PreTrainedTokenizerFast

from labkit.errors import DataError, ModelError
from labkit.models import (
    batches_by_tokens,
    choose_device,
    encode_prompt,
    encode_response,
    load_policy,
    load_reward_model,
    load_tokenizer,
    new_reward_model,
    packed_logits,
    response_logprobs,
    response_values,
    score,
    text_values,
)  # fmt: skip
from labkit.models.loading import save_model, scalar_head
from labkit.models.packed import LAB_ATTENTION
from labkit.sampling import sample
from tests.toy import ARCHITECTURES, END, save_toy, toy_rows


@pytest.fixture(params=ARCHITECTURES)
def folder(request, tmp_path):
    return save_toy(tmp_path / request.param, request.param, spread=0.2)


def test_packed_logits_equal_one_row_at_a_time(folder):
    model, plain = load_policy(folder, device="cpu"), AutoModelForCausalLM.from_pretrained(folder).eval()
    rows = toy_rows(9, 1, 30)
    with torch.no_grad():
        packed = packed_logits(model, rows).split([len(r) for r in rows])
        for row, logits in zip(rows, packed, strict=True):
            assert torch.allclose(logits, plain(torch.tensor([row])).logits[0], atol=2e-5)
        padded = packed_logits(plain, rows)
    assert torch.allclose(torch.cat(packed), padded, atol=2e-5)


def test_packed_gradients_equal_padded_gradients(folder):
    model, plain = load_policy(folder, device="cpu"), AutoModelForCausalLM.from_pretrained(folder).eval()
    rows = toy_rows(6, 2, 20)
    weights = torch.randn(sum(map(len, rows)), model.config.vocab_size)
    for m in (model, plain):
        (packed_logits(m, rows).log_softmax(-1) * weights).sum().backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-3, rtol=1e-3)


def test_two_threads_may_score_with_one_model(folder):
    """As two jobs with one reward model, or a board that samples while a job trains: each pass keeps what it asked for."""
    judge = new_reward_model(folder, 0, device="cpu")
    inputs = [(toy_rows(8, 1, 9, seed=i), toy_rows(8, 1, 15, seed=i + 9)) for i in range(2)]
    alone = [score(judge, *rows) for rows in inputs]
    start, faults = threading.Barrier(2), []

    def ask(rows, right):
        start.wait()
        for _ in range(60):
            try:
                if not torch.allclose(score(judge, *rows), right, atol=1e-5):
                    faults.append("other numbers")
            except Exception as error:  # of a pass through the other thread's hooks
                faults.append(error)

    threads = [threading.Thread(target=ask, args=pair) for pair in zip(inputs, alone, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def windowed(kind: str, path) -> str:
    """A tiny model whose layers look 8 tokens back."""
    small = {"vocab_size": 128, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    small |= {"intermediate_size": 24, "max_position_embeddings": 64, "sliding_window": 8}
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8}
    if kind == "qwen2_moe":
        small |= {"use_sliding_window": True, "max_window_layers": 1, **experts}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **small), attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3) if parameter.dim() > 1 else None
    model.save_pretrained(path)
    return str(path)


@pytest.mark.filterwarnings("ignore:.*is not run packed here")
@pytest.mark.parametrize(("kind", "packed"), [("mistral", True), ("qwen2_moe", False)])
def test_a_window_that_only_masks_know_is_not_lost(tmp_path, kind, packed):
    """The rows of the proof are shorter than windows; a model that hands on none is run as the library does."""
    folder = windowed(kind, tmp_path / kind)
    model, plain = load_policy(folder, device="cpu"), AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    rows = [row for row in toy_rows(3, 20, 30)]
    with torch.no_grad():
        truth = torch.cat([plain.eval()(torch.tensor([row])).logits[0] for row in rows])
        assert torch.allclose(packed_logits(model, rows), truth, atol=1e-3)
    assert (model.config._attn_implementation == LAB_ATTENTION) == packed


def test_log_probabilities_do_not_depend_on_the_batching(folder):
    model = load_policy(folder, device="cpu")
    prompts, responses = toy_rows(12, 1, 9, seed=1), toy_rows(12, 1, 15, seed=2)
    whole = response_logprobs(model, prompts, responses)
    assert torch.allclose(whole, response_logprobs(model, prompts, responses, max_tokens=25), atol=1e-5)
    alone = torch.cat([response_logprobs(model, [p], [r]) for p, r in zip(prompts, responses, strict=True)])
    assert torch.allclose(whole, alone, atol=1e-5)


def test_temperature_divides_the_logits(folder):
    model = load_policy(folder, device="cpu")
    logits = packed_logits(model, [[3, 4, 5]])[:2].detach()
    expected = (logits / 0.5).log_softmax(-1).gather(1, torch.tensor([[4], [5]])).squeeze(1)
    assert torch.allclose(response_logprobs(model, [[3]], [[4, 5]], temperature=0.5), expected, atol=1e-5)


def test_a_score_is_the_value_at_the_last_token_and_knows_nothing_of_its_neighbours(folder):
    model = new_reward_model(folder, seed=3, device="cpu")
    prompts, responses = toy_rows(8, 1, 9, seed=1), toy_rows(8, 1, 15, seed=2)
    scores = score(model, prompts, responses, max_tokens=40)
    values = text_values(model, [[*p, *r] for p, r in zip(prompts, responses, strict=True)])
    assert torch.allclose(scores, torch.stack([v[-1] for v in values]), atol=1e-5)
    assert torch.allclose(scores[:1], score(model, prompts[:1], responses[:1]), atol=1e-5)
    states = response_values(model, prompts, responses).split([len(r) for r in responses])
    for prompt, value, state in zip(prompts, values, states, strict=True):
        assert torch.allclose(value[len(prompt) - 1 : -1], state, atol=1e-5)


def test_a_score_needs_the_last_feed_forward_block_for_one_token_of_a_text(folder):
    model, widths = new_reward_model(folder, seed=3, device="cpu"), []
    prompts, responses = toy_rows(8, 1, 9, seed=1), [*toy_rows(7, 1, 15, seed=2), []]
    rows = [[*p, *r] for p, r in zip(prompts, responses, strict=True)]
    whole = torch.stack([v[-1] for v in text_values(model, rows)])
    for layer in next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList)):
        layer.mlp.register_forward_hook(lambda module, inputs, output: widths.append(inputs[0].shape[1]))
    torch.testing.assert_close(score(model, prompts, responses), whole, atol=1e-6, rtol=0)
    assert widths == [sum(map(len, rows)), len(rows)]


def test_sampling_and_scoring_run_in_the_chosen_dtype_where_nobody_opened_an_autocast(folder, monkeypatch):
    policy, judge = load_policy(folder, device="cpu"), new_reward_model(folder, seed=3, device="cpu")
    prompts, responses = toy_rows(8, 1, 9, seed=1), toy_rows(8, 1, 15, seed=2)

    def everything():
        drawn = sample(policy, prompts, max_new_tokens=8, eos_id=END, seeds=range(8))
        return [
            torch.tensor([x for s in drawn for x in s.logprobs]),
            response_logprobs(policy, prompts, responses),
            response_values(judge, prompts, responses),
            score(judge, prompts, responses),
            torch.cat(text_values(judge, responses)),
        ]

    monkeypatch.setenv("LABKIT_DEVICE", "cpu")
    full = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = everything()  # a caller's own stays in force
    monkeypatch.setenv("LABKIT_DTYPE", "bfloat16")
    for f, h, chosen in zip(full, half, everything(), strict=True):
        assert chosen.dtype == torch.float32 and torch.equal(chosen, h) and not torch.equal(chosen, f)


def test_the_score_of_a_text_does_not_depend_on_padding_of_either_side(folder):
    model = new_reward_model(folder, seed=3, device="cpu")
    row = toy_rows(1, 12, 12)[0]
    expected = score(model, [row[:4]], [row[4:]])
    ids = torch.tensor([row + [7, 8, 9]])
    right = model(input_ids=ids, attention_mask=torch.tensor([[1] * 12 + [0] * 3])).logits[0, 11, 0]
    ids = torch.tensor([[7, 8, 9, *row]])
    positions = torch.tensor([[0, 0, 0, *range(12)]])
    left = model(input_ids=ids, attention_mask=torch.tensor([[0] * 3 + [1] * 12]), position_ids=positions).logits[
        0, -1, 0
    ]
    assert torch.allclose(torch.stack([right, left]), expected.expand(2), atol=1e-5)


def test_the_bias_survives_a_reload_by_plain_transformers(folder, tmp_path):
    model = new_reward_model(folder, seed=3, device="cpu")
    with torch.no_grad():
        scalar_head(model).bias.fill_(-1.75)
    model.save_pretrained(tmp_path / "rm")
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path / "rm").eval()
    row = toy_rows(1, 8, 8)[0]
    expected = score(model, [row[:3]], [row[3:]])
    assert torch.allclose(plain(torch.tensor([row])).logits[0, -1], expected, atol=1e-5)
    assert torch.allclose(score(load_reward_model(tmp_path / "rm", device="cpu"), [row[:3]], [row[3:]]), expected)


def test_the_head_begins_with_the_stated_spread_and_depends_on_the_seed_alone(folder):
    a, b, c = (scalar_head(new_reward_model(folder, seed=s, device="cpu")).weight for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert 0.4 < a.std().item() * 33**0.5 < 1.7


def test_batches_hold_every_row_once_and_keep_the_limit():
    lengths = [5, 3, 9, 1, 7, 2, 40]
    batches = list(batches_by_tokens(lengths, 20))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 20 for b in batches)


def test_an_added_token_is_never_likely(tmp_path):
    """Also where all logits lie far below 0, as GPT-2's do, where a fresh row's logit near 0 would win every time."""
    plain = AutoModelForCausalLM.from_pretrained(save_toy(tmp_path / "m", spread=0.2)).eval()
    rows = torch.tensor(toy_rows(4, 9, 9))
    with torch.no_grad():
        plain.get_input_embeddings().weight.add_(
            3.0
        )  # one direction that all tokens share, which the final norm's bias
        plain.transformer.ln_f.bias.fill_(-1.0)  # turns against all of them
        assert plain(rows).logits.amax() < -30
    plain.save_pretrained(tmp_path / "low")
    known = plain.config.vocab_size
    grown = load_policy(tmp_path / "low", tokenizer=range(known + 3), device="cpu")
    with torch.no_grad():
        after = grown(rows).logits.softmax(-1)
    assert after.shape[-1] == known + 3 and after[..., known:].amax() <= 1 / known
    twice = load_policy(tmp_path / "low", tokenizer=range(known + 3), device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(grown.parameters(), twice.parameters(), strict=True))


def test_every_process_of_a_launcher_loads_onto_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setenv("LABKIT_DEVICE", "cuda")
    assert choose_device()[0] == torch.device("cuda")
    for rank, index in (("0", 0), ("3", 3), ("5", 1)):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert choose_device()[0] == torch.device("cuda", index)
    monkeypatch.setenv("LABKIT_DEVICE", "cpu")
    assert choose_device()[0] == torch.device("cpu")


def test_errors_teach(tmp_path):
    model = load_policy(save_toy(tmp_path / "m"), device="cpu")
    with pytest.raises(DataError, match="context of 64"):
        packed_logits(model, [list(range(3, 39)) * 2])
    with pytest.raises(DataError, match="empty"):
        packed_logits(model, [[3], []])
    with pytest.raises(ModelError, match="No causal language model"):
        load_policy(tmp_path / "nothing")
    with pytest.raises(ModelError, match="not a reward model"):
        load_reward_model(tmp_path / "m")


def test_a_folder_without_its_tokenizer_is_refused_and_long_texts_need_no_warning_of_the_librarys(tmp_path, caplog, monkeypatch):
    from tokenizers import Tokenizer, models, pre_tokenizers

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<e>": 0}, unk_token=None)), eos_token="<e>")
    bare.save_pretrained(tmp_path / "bare")
    with pytest.raises(ModelError, match="bare knows no token but special ones.*its files are missing"):
        load_tokenizer(tmp_path / "bare")
    raw = Tokenizer(models.WordLevel({"a": 0, "<e>": 1}, unk_token="a"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<e>", model_max_length=8).save_pretrained(tmp_path / "short")
    short = load_tokenizer(tmp_path / "short")
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    assert (len(encode_prompt(short, "a " * 20)), len(encode_response(short, "a " * 20))) == (20, 21)
    assert "indexing errors" not in caplog.text


def test_a_tokenizer_without_an_end_token_is_refused_and_a_missing_pad_is_added(tmp_path):
    from tokenizers import Tokenizer, models

    raw = Tokenizer(models.WordLevel({"a": 0, "b": 1, "<e>": 2}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=raw).save_pretrained(tmp_path / "none")
    with pytest.raises(ModelError, match="no end token"):
        load_tokenizer(tmp_path / "none")
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<e>", pad_token="<e>").save_pretrained(tmp_path / "same")
    tokenizer = load_tokenizer(tmp_path / "same")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    save_toy(tmp_path / "m")
    tokenizer.add_tokens([f"x{i}" for i in range(60)])
    model = load_policy(tmp_path / "m", tokenizer=tokenizer, device="cpu")
    assert model.get_input_embeddings().num_embeddings >= len(tokenizer)
    judge = new_reward_model(tmp_path / "m", 0, tokenizer=tokenizer, device="cpu")
    assert torch.isfinite(score(judge, [[1]], [[len(tokenizer) - 1]])).all(), "what the policy may write, its judge can read"
    save_model(judge, tokenizer, tmp_path / "judge")
    again = load_reward_model(tmp_path / "judge", tokenizer=tokenizer, device="cpu")
    assert torch.equal(score(again, [[1]], [[len(tokenizer) - 1]]), score(judge, [[1]], [[len(tokenizer) - 1]]))
