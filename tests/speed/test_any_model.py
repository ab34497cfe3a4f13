"""Any causal LM of transformers: packed where that is right, and else padded and sampled by `generate`, with the same numbers."""

import warnings

import pytest
import torch
import transformers as hf

from labkit.models import (
    load_policy,
    load_reward_model,
    new_reward_model,
    packed_logits,
    proof,
    response_logprobs,
    score,
)
from labkit.models.packed import LAB_ATTENTION
from labkit.sampling import sample
from tests.toy import ARCHITECTURES, END, ROPE, SPECIALS, toy_rows

pytestmark = pytest.mark.slow

GROUPED = {**ROPE, **SPECIALS, "num_key_value_heads": 2, "max_position_embeddings": 64}
OLD = {"vocab_size": ROPE["vocab_size"], "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, **SPECIALS}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8}
EXPERTS = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 16}

PACKED = {
    **ARCHITECTURES,
    "gpt_neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**ROPE, **SPECIALS, max_position_embeddings=64)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(
        hf.Gemma3TextConfig(**GROUPED, head_dim=8, pad_token_id=0, sliding_window=8, layer_types=["sliding_attention", "full_attention"])
    ),
    "mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**GROUPED, num_local_experts=4)),
    "deepseek_v3": lambda: hf.DeepseekV3ForCausalLM(  # keys are wider than values
        hf.DeepseekV3Config(**{**GROUPED, "num_key_value_heads": 4}, **LATENT, **EXPERTS, first_k_dense_replace=1, rope_scaling=None)
    ),
}
PLAIN = {
    "lfm2": lambda: hf.Lfm2ForCausalLM(  # a convolution beside attention
        hf.Lfm2Config(**GROUPED, layer_types=["conv", "full_attention"], block_multiple_of=8)
    ),
    "codegen": lambda: hf.CodeGenForCausalLM(hf.CodeGenConfig(**OLD, n_ctx=64)),  # asks nobody for its attention
    "mamba": lambda: hf.MambaForCausalLM(  # no attention at all
        hf.MambaConfig(vocab_size=ROPE["vocab_size"], hidden_size=32, num_hidden_layers=2, state_size=4, pad_token_id=0, **SPECIALS)
    ),
    "gptj": lambda: hf.GPTJForCausalLM(hf.GPTJConfig(**OLD)),  # a table of its own
    "gemma2": lambda: hf.Gemma2ForCausalLM(  # a soft cap
        hf.Gemma2Config(**GROUPED, head_dim=8, pad_token_id=0, sliding_window=8, attn_logit_softcapping=0.5)
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_known_yet(monkeypatch):
    monkeypatch.setattr(proof, "_faults", {})
    monkeypatch.setattr(proof, "_said", set())


def save(folder, make):
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    model.save_pretrained(folder)
    return folder


def alone(folder, row):
    """The library's own attention that knows everything, on one row: (L, V)."""
    with torch.no_grad():
        plain = hf.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
        return plain(torch.tensor([row])).logits[0]


def check_numbers(model, folder):
    """Scores and samples of ragged rows are those of each row alone."""
    rows = toy_rows(5, 3, 14)
    with torch.no_grad():
        ours = packed_logits(model, rows).split([len(r) for r in rows])
    for row, logits in zip(rows, ours, strict=True):
        torch.testing.assert_close(logits, alone(folder, row), atol=2e-5, rtol=1e-3)
    drawn = sample(model, rows, max_new_tokens=12, eos_id=END, seeds=range(5))
    for row, s in zip(rows, drawn, strict=True):
        theirs = alone(folder, [*row, *s.ids])[len(row) - 1 : -1].log_softmax(-1)
        torch.testing.assert_close(torch.tensor(s.logprobs), theirs.gather(1, torch.tensor(s.ids)[:, None])[:, 0], atol=1e-4, rtol=1e-3)
    recorded = torch.tensor([x for s in drawn for x in s.logprobs])
    assert torch.allclose(response_logprobs(model, rows, [s.ids for s in drawn]), recorded, atol=1e-4)


@pytest.mark.parametrize("name", PACKED)
def test_what_can_be_packed_is_packed_without_a_word(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = load_policy(save(tmp_path / name, PACKED[name]), device="cpu")
    assert model.config._attn_implementation == LAB_ATTENTION
    check_numbers(model, tmp_path / name)


@pytest.mark.parametrize("name", PLAIN)
def test_what_cannot_be_packed_says_so_once_and_gives_the_same_numbers(name, tmp_path):
    folder = save(tmp_path / name, PLAIN[name])
    with pytest.warns(UserWarning, match="is not run packed here.*samples through `generate`"):
        model = load_policy(folder, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_policy(folder, device="cpu")
    assert model.config._attn_implementation in ("sdpa", "eager")
    check_numbers(model, folder)


def test_a_reward_model_of_such_a_kind_is_padded_too(tmp_path):
    folder = save(tmp_path / "neo", lambda: hf.GPTNeoForCausalLM(
        hf.GPTNeoConfig(
            vocab_size=ROPE["vocab_size"], max_position_embeddings=64, hidden_size=32, num_layers=2, num_heads=4,
            attention_types=[[["global", "local"], 1]], window_size=8, **SPECIALS,
        )
    ))  # fmt: skip
    with pytest.warns(UserWarning, match="GPTNeoForTokenClassification is not run packed here"):
        model = new_reward_model(folder, 0, device="cpu")
    prompts, responses = toy_rows(6, 1, 9), toy_rows(6, 1, 12, seed=1)
    together = score(model, prompts, responses)
    each = torch.cat([score(model, [p], [r]) for p, r in zip(prompts, responses, strict=True)])
    torch.testing.assert_close(together, each, atol=1e-5, rtol=1e-4)
    model.save_pretrained(tmp_path / "rm")
    torch.testing.assert_close(score(load_reward_model(tmp_path / "rm", device="cpu"), prompts, responses), together)


def test_an_architecture_is_tried_once_whatever_its_size(tmp_path, monkeypatch):
    tried, fault = [], proof._fault
    monkeypatch.setattr(proof, "_fault", lambda model: tried.append(type(model)) or fault(model))
    for layers in (1, 2, 3):
        config = hf.GPT2Config(vocab_size=40 + layers, n_positions=64, n_embd=32, n_layer=layers, n_head=4, **SPECIALS)
        load_policy(save(tmp_path / str(layers), lambda config=config: hf.GPT2LMHeadModel(config)), device="cpu")
    assert tried == [hf.GPT2LMHeadModel]
