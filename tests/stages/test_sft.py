"""SFT: what the loss sees, dropout, the pretraining mix, the epoch that is chosen, bad input."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from labkit import sft
from labkit.dropout import no_dropout, residual_blocks, residual_dropout
from labkit.errors import DataError, ModelError
from labkit.knobs import SFTKnobs, constant
from labkit.models import encode_prompt, encode_response, load_policy, load_tokenizer, new_reward_model
from labkit.sft import SFTSettings, encode_demonstrations, init_settings, pretraining_pieces, validation_loss
from labkit.sft.data import mixed_in
from labkit.types import Demonstration
from tests.stages.animals import COLOURS, CONTEXT, MODELS, demonstrations, question, save_base, tokenizer

STEADY = constant(SFTKnobs())
QUICK = SFTSettings(epochs=3, batch_size=8, lr=1e-2, dropout=0.0, valid_samples=4, valid_response_tokens=8)
ONCE = QUICK.but(epochs=1)  # for what two runs share from their first step on
TEXTS = [f"the {a} is very {c} . it is a good {a}" for a, c in COLOURS.items()] * 8


def run(base, settings=QUICK, rows=None, **options):
    state = sft.start(base, device="cpu")
    state.tokenizer = (
        tokenizer()
    )  # AutoTokenizer gives every Qwen2 folder Qwen's own, which knows none of the toy's words
    steps = list(sft.loop(state, rows or demonstrations(), STEADY, settings, **options))
    return state, steps


def losses(steps):
    return [s.metrics["loss"] for s in steps]


@pytest.mark.parametrize("architecture", MODELS)
def test_any_architecture_learns_and_reloads_with_plain_transformers(bases, tmp_path, architecture):
    state, steps = run(bases[architecture], QUICK.but(epochs=6, dropout=0.1), valid=demonstrations(4))
    assert losses(steps)[-1] < 0.6 * losses(steps)[0]
    state.save_model(tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    saved = dict(again.named_parameters())
    assert all(torch.equal(p, saved[n]) for n, p in state.model.named_parameters())


def test_the_loss_is_the_mean_over_response_and_end_tokens(bases):
    """lr 0: the loss of a step equals the validation loss of its own batch, prompts left out."""
    rows = demonstrations(8)
    _, steps = run(bases["llama"], QUICK.but(epochs=1, lr=0.0), rows=rows, valid=rows)
    assert len(steps) == 1 and steps[0].metrics["loss"] == pytest.approx(steps[0].metrics["valid_loss"], rel=1e-5)
    assert steps[0].metrics["tokens"] == sum(
        len(encode_prompt(tokenizer(), r.prompt.text)) + len(encode_response(tokenizer(), r.text)) for r in rows
    )


def test_packed_and_padded_batches_train_alike(bases):
    packed, steps = run(bases["gpt2"], ONCE)
    state = sft.start(bases["gpt2"], device="cpu")
    state.model.set_attn_implementation("sdpa")  # trl's own collator, with padding
    padded = list(sft.loop(state, demonstrations(), STEADY, ONCE))
    assert losses(steps) == pytest.approx(losses(padded), rel=1e-4)
    assert [s.metrics["tokens"] for s in steps] == [s.metrics["tokens"] for s in padded]


def test_micro_batches_change_nothing(bases):
    whole, parts = (losses(run(bases["gpt2"], ONCE.but(micro_batch=m))[1]) for m in (None, 2))
    assert whole == pytest.approx(parts, rel=1e-4)


def test_one_seed_one_run_another_seed_another(bases):
    settings = ONCE.but(dropout=0.2)
    first, second, other = (losses(run(bases["gpt2"], settings.but(seed=s))[1]) for s in (3, 3, 4))
    assert first == second != other


def test_prompt_and_response_meet_as_ids():
    pieces = encode_demonstrations(tokenizer(), demonstrations(2), context=CONTEXT)
    row = pieces.rows()[0]
    assert row["input_ids"] == pieces.prompts[0] + pieces.responses[0] and row["input_ids"][-1] == 0
    assert [label for label in row["labels"] if label != -100] == pieces.responses[0]


# Residual dropout


@pytest.mark.parametrize("architecture", MODELS)
def test_residual_dropout_is_there_in_training_only_and_gone_afterwards(bases, architecture):
    model = load_policy(bases[architecture], device="cpu")
    ids = torch.tensor([[3, 4, 5, 6]])
    plain = model(ids).logits
    assert len(residual_blocks(model)) == 4  # attention and feed-forward of two layers
    with residual_dropout(model, 0.5):
        torch.testing.assert_close(model(ids).logits, plain)  # eval mode
        model.train()
        assert not torch.allclose(model(ids).logits, model(ids).logits)
    torch.testing.assert_close(model(ids).logits, plain)  # still in training mode, but nothing drops
    model.eval()


@pytest.mark.parametrize("kind", ["gpt_neox", "opt", "phi3"])
def test_what_is_dropped_is_dropped_once(kind):
    """Layers may hold dropouts of their own beside the blocks, or no block for the feed-forward part."""
    small = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    opt = {"ffn_dim": 24, "word_embed_proj_dim": 16}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **small | (opt if kind == "opt" else {"pad_token_id": 0})))
    blocks = residual_blocks(model)
    assert len(blocks) == 4 and not any(isinstance(block, torch.nn.Dropout) for block in blocks)


def test_the_share_that_drops_is_the_one_asked_for(bases):
    model = load_policy(bases["llama"], device="cpu").train()
    dropped = []
    with residual_dropout(model, 0.2):
        block = residual_blocks(model)[1]
        block.register_forward_hook(lambda m, i, output: dropped.append((output == 0).float().mean().item()))
        for _ in range(20):
            model(torch.arange(3, 19).repeat(8, 1))
    assert sum(dropped) / len(dropped) == pytest.approx(0.2, abs=0.01)


def test_the_stock_dropout_of_gpt2_is_switched_off_and_stays_off_on_reload(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(save_base(tmp_path / "stock"))
    assert model.config.resid_pdrop == 0.1  # transformers' default
    no_dropout(model).save_pretrained(tmp_path / "none")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "none").train()
    ids = torch.tensor([[3, 4, 5, 6]])
    torch.testing.assert_close(again(ids).logits, again(ids).logits)


def test_a_copy_of_the_trained_model_calls_its_own_weights(bases):
    """trl replaces the model's forward; a copy must not go on calling the original."""
    state, _ = run(bases["gpt2"], QUICK.but(epochs=1))
    twin = copy.deepcopy(state.model)
    with torch.no_grad():
        for p in state.model.parameters():
            p.zero_()
    assert twin(torch.tensor([[3, 4, 5]])).logits.abs().sum() > 0


# The chosen epoch


def counted(scores):
    """A reward that gives the scores in turn, one per epoch."""
    turn = iter(scores)
    return lambda prompts, responses: torch.full((len(prompts),), next(turn))


def test_the_epoch_is_chosen_by_rm_score_not_by_validation_loss(bases, tmp_path):
    options = {"valid": demonstrations(4), "reward": counted([1.0, 5.0, 2.0]), "epochs_to": tmp_path / "epochs"}
    state, steps = run(bases["gpt2"], **options)
    assert state.chosen["by"] == "rm_score" and state.chosen["epoch"] == 2
    assert [e["rm_score"] for e in state.epochs] == [1.0, 5.0, 2.0]
    assert state.epochs[2]["valid_loss"] < state.epochs[1]["valid_loss"]  # the loss alone would have kept the third
    kept = dict(load_policy(tmp_path / "epochs" / "02", device="cpu").named_parameters())
    assert all(torch.equal(p, kept[n]) for n, p in state.model.named_parameters())
    measured = [s.number for s in steps if "rm_score" in s.metrics]
    assert measured == [4, 8, 12] == [s.number for s in steps if "valid_loss" in s.metrics]


def test_without_a_reward_the_loss_chooses_and_without_validation_the_last_epoch_stays(bases):
    state, _ = run(bases["gpt2"], valid=demonstrations(4))
    assert state.chosen["by"] == "valid_loss"
    assert state.chosen["valid_loss"] == min(e["valid_loss"] for e in state.epochs)
    pieces = encode_demonstrations(tokenizer(), demonstrations(4), context=CONTEXT)
    assert validation_loss(state.model, pieces) == pytest.approx(state.chosen["valid_loss"])
    state, _ = run(bases["gpt2"])
    assert state.chosen["by"] == "last" and state.chosen["epoch"] == 3


def test_a_reward_model_may_be_the_reward(bases):
    model = new_reward_model(bases["gpt2"], 0, device="cpu")
    state, steps = run(bases["gpt2"], QUICK.but(epochs=1), valid=demonstrations(6), reward=model)
    assert state.chosen["by"] == "rm_score" and "rm_score" in steps[-1].metrics


def test_the_chosen_epoch_survives_a_snapshot(bases, tmp_path):
    state = sft.start(bases["gpt2"], device="cpu")
    loop = sft.loop(state, demonstrations(), STEADY, QUICK, valid=demonstrations(4), reward=counted([9.0, 1.0]))
    for _ in range(6):
        next(loop)
    state.save(tmp_path / "000006")
    loop.close()
    fresh = sft.start(bases["gpt2"], device="cpu").load(tmp_path / "000006")
    list(sft.loop(fresh, demonstrations(), STEADY, QUICK, valid=demonstrations(4), reward=counted([2.0, 3.0])))
    assert fresh.chosen["epoch"] == 1 and [e["rm_score"] for e in fresh.epochs] == [9.0, 2.0, 3.0]


# The PPO init


def test_the_init_mixes_in_a_tenth_of_pretraining_examples(bases):
    state = sft.start(bases["gpt2"], device="cpu")
    settings = init_settings(batch_size=8, lr=1e-2, pretrain_tokens=10)
    steps = list(sft.init_loop(state, demonstrations(36), STEADY, settings, pretraining=TEXTS))
    assert {s.stage for s in steps} == {"ppo_init"} and state.chosen["by"] == "last"
    assert len(steps) == 2 * 5 == sft.total_steps(state, demonstrations(36), settings)  # 36 + 4 examples, 2 epochs
    plain = sum(len(p) + len(r) for p, r in zip(*encoded(36), strict=True))
    assert sum(s.metrics["tokens"] for s in steps) == 2 * (plain + 4 * 10)
    assert mixed_in(10, 0.5) == 10 and mixed_in(10, 0.8) == 40, "a share of all examples, not of the demonstrations"


def encoded(count):
    pieces = encode_demonstrations(tokenizer(), demonstrations(count), context=CONTEXT)
    return pieces.prompts, pieces.responses


def test_pretraining_pieces_are_consecutive_text_with_end_tokens_between():
    pieces = pretraining_pieces(tokenizer(), TEXTS, length=7, count=5)
    stream = [t for text in TEXTS for t in encode_response(tokenizer(), text)]
    assert [t for p in pieces for t in p] == stream[:35] and {len(p) for p in pieces} == {7}


def test_the_mix_keeps_the_pretraining_text_likely(bases):
    """With the mix, the language model forgets its pretraining text less than without."""
    texts = encode_demonstrations(
        tokenizer(), [Demonstration(question(0, "fox"), t) for t in TEXTS[:4]], context=CONTEXT
    )
    after = {}
    for share in (0.0, 0.5):
        settings = init_settings(batch_size=8, lr=1e-2, pretrain_tokens=10, pretrain_share=share, dropout=0.0)
        state, _ = run(bases["gpt2"], settings, pretraining=TEXTS)
        after[share] = validation_loss(state.model, texts)
    assert after[0.5] < after[0.0]


# Bad input


def test_an_empty_data_set_is_one_sentence(bases):
    with pytest.raises(DataError, match="There are no demonstrations to train on"):
        next(sft.loop(sft.start(bases["gpt2"], device="cpu"), [], STEADY, QUICK))


def test_a_prompt_longer_than_its_limit_is_dropped_and_counted(bases):
    long = Demonstration(question(99, "very " * 30 + "fox"), "it is red")
    state, _ = run(bases["gpt2"], QUICK.but(epochs=1), rows=[*demonstrations(8), long])
    assert state.dropped == 1
    with pytest.raises(DataError, match=r"All 1 prompts are longer than 16 tokens \(the shortest has"):
        run(bases["gpt2"], rows=[long])


def test_a_prompt_of_just_the_limit_stays_and_a_response_is_cut_to_its_own():
    whole = encode_demonstrations(tokenizer(), demonstrations(1), context=CONTEXT)
    (prompt,), (response,) = whole.prompts, whole.responses
    limits = {"max_prompt_tokens": len(prompt), "max_response_tokens": 3}
    cut = encode_demonstrations(tokenizer(), demonstrations(1), context=CONTEXT, **limits)
    assert len(response) > 3 and (cut.prompts, cut.responses, cut.dropped) == ([prompt], [response[:3]], 0)


def test_prompts_without_a_token_are_not_called_too_long(bases):
    blank = Demonstration(question(99, ""), "it is red")
    blank = replace(blank, prompt=replace(blank.prompt, text=" "))
    with pytest.raises(DataError, match="None of the 2 prompts has a token.*the model's own tokenizer"):
        run(bases["gpt2"], rows=[blank, blank])
    long = Demonstration(question(98, "very " * 30 + "fox"), "it is red")
    with pytest.raises(DataError, match=r"All 2 prompts, but for 1 without a token, are longer than 16 tokens \(the shortest has 3"):
        run(bases["gpt2"], rows=[blank, long])


def test_limits_beyond_the_context_are_refused(bases):
    with pytest.raises(DataError, match="max_prompt_tokens 30 and max_response_tokens 16 exceed .* context of 32"):
        run(bases["gpt2"], QUICK.but(max_prompt_tokens=30))


def test_a_reward_without_validation_prompts_is_refused(bases):
    with pytest.raises(DataError, match="no validation data; pass valid too"):
        run(bases["gpt2"], reward=counted([1.0]))


def test_too_little_pretraining_text_is_refused(bases):
    with pytest.raises(DataError, match="gives 1 pieces of 10 tokens, but the mix needs 4"):
        run(bases["gpt2"], init_settings(pretrain_tokens=10), rows=demonstrations(36), pretraining=TEXTS[:1])


def test_pieces_of_pretraining_text_that_the_model_cannot_read_are_refused_before_training(bases):
    state, longer = sft.start(bases["gpt2"], device="cpu"), init_settings(pretrain_tokens=CONTEXT + 1)
    loop = sft.loop(state, demonstrations(8), STEADY, longer, pretraining=TEXTS * 9)
    for ask in (lambda: sft.total_steps(state, demonstrations(8), longer), lambda: next(loop)):
        with pytest.raises(DataError, match=r"text of 33 tokens \(pretrain_tokens\) do not fit the model's context of 32"):
            ask()
    assert sft.total_steps(state, demonstrations(8), longer.but(pretrain_share=0.0))


def test_a_model_without_end_token_is_refused_and_one_without_pad_token_gets_one(tmp_path):
    base = save_base(tmp_path / "base")
    words = tokenizer()
    words.eos_token = None
    words.save_pretrained(base)
    with pytest.raises(ModelError, match="has no end token"):
        sft.start(base, device="cpu")
    words = tokenizer()
    words.pad_token = None
    words.save_pretrained(base)
    state = sft.start(base, device="cpu")
    steps = list(sft.loop(state, demonstrations(), STEADY, QUICK.but(epochs=1)))
    assert state.tokenizer.pad_token_id not in (None, state.tokenizer.eos_token_id) and len(steps) == 4
    state.save_model(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved").pad_token_id == state.tokenizer.pad_token_id


def test_a_missing_model_is_one_sentence(tmp_path):
    with pytest.raises(ModelError, match="No tokenizer could be loaded from"):
        sft.start(tmp_path / "nowhere")


def test_under_bf16_autocast_weights_stay_fp32_and_the_models_own_forward_comes_back(bases, monkeypatch):
    monkeypatch.setattr(sys.modules["labkit.sft.loop"], "choose_device", lambda: (torch.device("cpu"), torch.bfloat16))
    state, steps = run(bases["llama"], QUICK)
    assert losses(steps)[-1] < losses(steps)[0] and {p.dtype for p in state.model.parameters()} == {torch.float32}
    assert "forward" not in state.model.__dict__ and state.model(torch.tensor([[3]])).logits.dtype == torch.float32
