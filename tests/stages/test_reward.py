"""The reward model: identities of its loss, whole prompts as batch elements, the centring bias, judging."""

from __future__ import annotations

import math
import sys
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForTokenClassification

from labkit import reward
from labkit.errors import DataError, InvariantError
from labkit.knobs import RewardKnobs, constant
from labkit.models import encode_prompt, encode_response, new_reward_model, score
from labkit.models.loading import scalar_head
from labkit.models.packed import LAB_ATTENTION
from labkit.models.shared import completion_scores
from labkit.reward import RewardSettings, accuracy, encode_rankings, kwise_loss
from labkit.reward.data import as_pairs, collate, response_ids
from labkit.types import Completion, Prompt, Ranking
from tests.stages.animals import CONTEXT, MODELS, demonstrations, numbers, rankings, tokenizer

reward_loop = import_module("labkit.reward.loop")  # the name labkit.reward.loop is the function
STEADY = constant(RewardKnobs())
QUICK = RewardSettings(epochs=2, batch_size=10, lr=3e-3)


def run(base, settings=QUICK, rows=None, **options):
    state = reward.start(base, device="cpu")
    state.tokenizer = (
        tokenizer()
    )  # AutoTokenizer gives every Qwen2 folder Qwen's own, which knows none of the toy's words
    return state, list(reward.loop(state, rows or rankings(), STEADY, settings, **options))


def losses(steps):
    return [s.metrics["loss"] for s in steps]


def encoded(rows, **settings):
    return encode_rankings(tokenizer(), rows, RewardSettings(**settings), CONTEXT).rows


def loss_of(rows, scores):
    batch = collate(rows)
    return kwise_loss(scores, batch["pairs"], batch["weights"], batch["prompts"])


def ranking(groups, number=0, labeler="l0", prompt="what colour is the fox ?"):
    ids = [i for group in groups for i in group]
    completions = tuple(Completion(i, f"p{number}", f"it is {'very ' * n}red") for n, i in enumerate(ids))
    return Ranking(Prompt(f"p{number}", prompt), completions, groups, labeler=labeler)


# The loss


def test_for_two_completions_it_is_the_plain_pair_loss():
    rows = encoded([ranking((("a",), ("b",)), n) for n in range(3)])
    scores = torch.tensor([0.3, -1.0, 2.0, 2.5, 0.0, 0.0])
    assert loss_of(rows, scores).item() == pytest.approx(-F.logsigmoid(scores[0::2] - scores[1::2]).mean().item())


def test_equal_scores_cost_log_two_whatever_k():
    for k in range(2, 10):
        rows = encoded([ranking(tuple((f"c{i}",) for i in range(k)))])
        assert loss_of(rows, torch.zeros(k)).item() == pytest.approx(math.log(2))


def test_a_prompt_with_many_completions_counts_as_much_as_one_with_two():
    two, nine = ranking((("a",), ("b",)), 0), ranking(tuple((f"c{i}",) for i in range(9)), 1)
    one, other = loss_of(encoded([two]), torch.tensor([2.0, 0.0])), loss_of(encoded([nine]), torch.arange(9.0))
    both = loss_of(encoded([two, nine]), torch.cat([torch.tensor([2.0, 0.0]), torch.arange(9.0)]))
    assert both.item() == pytest.approx((one.item() + other.item()) / 2)


def test_the_loss_knows_differences_only_and_falls_as_they_grow():
    rows, scores = encoded([ranking((("a",), ("b",), ("c",)))]), torch.tensor([2.0, 1.0, -1.0])
    assert loss_of(rows, scores + 7).item() == pytest.approx(loss_of(rows, scores).item(), rel=1e-5)
    assert loss_of(rows, 2 * scores) < loss_of(rows, scores) < loss_of(rows, scores.flip(0))


def test_tied_completions_do_not_pull_at_each_other_and_c_k_2_still_divides():
    tied = ranking((("a",), ("b", "c")))
    scores = torch.tensor([1.0, 0.0, 5.0], requires_grad=True)
    loss = loss_of(encoded([tied]), scores)
    assert loss.item() == pytest.approx((F.softplus(torch.tensor(-1.0)) + F.softplus(torch.tensor(4.0))).item() / 3)
    strict = loss_of(encoded([tied], normalise="strict_pairs"), scores)
    assert strict.item() == pytest.approx(loss.item() * 3 / 2)


def test_unranked_completions_take_no_part():
    partial = ranking((("a",), ("b",), ("c",)))
    partial = Ranking(partial.prompt, partial.completions, (("a",), ("c",)))
    (row,) = encoded([partial])
    assert len(row.responses) == 2 and row.pairs == [(0, 1)] and row.weight == 1.0


# Batches


def test_every_completion_passes_once_and_a_batch_counts_prompts(bases, monkeypatch):
    from labkit.reward import trainer

    passed = []

    def watch(model, prompts, responses):
        passed.append((len(prompts), sum(map(len, responses))))
        return completion_scores(model, prompts, responses)

    monkeypatch.setattr(trainer, "completion_scores", watch)
    rows = rankings(20)
    _, steps = run(bases["gpt2"], QUICK.but(epochs=1), rows)
    assert len(steps) == 2 and [p for p, _ in passed] == [10, 10]
    assert sum(n for _, n in passed) == sum(len(r.completions) for r in rows)


@pytest.mark.parametrize("architecture", MODELS)
def test_reading_a_prompt_once_changes_neither_scores_nor_gradients(bases, architecture):
    prompts, responses = [[3, 4, 5], [6]], [[[7, 0], [8, 9, 10, 0], [11]], [[12, 13], [14, 15, 0]]]
    found = {}
    for attention in (LAB_ATTENTION, "sdpa"):  # the second reads prompt + response row by row, padded
        model = reward.start(bases[architecture], device="cpu").model
        model.set_attn_implementation(attention)
        scores = completion_scores(model, prompts, responses)
        (scores * torch.arange(1.0, 6.0)).sum().backward()
        found[attention] = scores.detach(), [p.grad for p in model.parameters()]
    torch.testing.assert_close(found[LAB_ATTENTION][0], found["sdpa"][0], atol=1e-5, rtol=1e-4)
    for ours, plain in zip(found[LAB_ATTENTION][1], found["sdpa"][1], strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-3)


def test_micro_batches_change_memory_only(bases):
    whole, parts = (run(bases["llama"], QUICK.but(epochs=1, micro_batch=m)) for m in (None, 2))
    assert losses(whole[1]) == pytest.approx(losses(parts[1]), rel=1e-4)
    assert [s.metrics["accuracy"] for s in whole[1]] == [s.metrics["accuracy"] for s in parts[1]]
    a, b = (score(s.model, [[3, 4]], [[5, 0]]).item() for s, _ in (whole, parts))
    assert a == pytest.approx(b, abs=0.02)  # Adam makes rounding visible


def test_a_last_batch_that_is_not_full_is_averaged_over_its_own_prompts(bases):
    """lr 0: 14 prompts in batches of 10; the second step's loss is the mean over 4 prompts, not a sum cut to 4/10."""
    rows = rankings(14)
    state, steps = run(bases["gpt2"], QUICK.but(epochs=1, lr=0.0, micro_batch=5), rows)
    overall = accuracy(state.model, state.tokenizer, rows).loss
    assert reward.total_steps(state, rows, QUICK.but(epochs=3)) == 3 * len(steps) == 6
    assert (10 * losses(steps)[0] + 4 * losses(steps)[1]) / 14 == pytest.approx(overall, rel=1e-4)


@pytest.mark.parametrize("architecture", MODELS)
def test_scores_do_not_depend_on_padding_or_on_the_company(bases, architecture):
    model = new_reward_model(bases[architecture], 0, device="cpu")
    rows = [[3, 4, 5], [6, 7], [8, 9, 10, 11, 12, 13, 14]]
    together = score(model, rows, [[0]] * 3)
    alone = torch.cat([score(model, [r], [[0]]) for r in rows])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    for side in ("left", "right"):
        torch.testing.assert_close(padded_scores(model, [[*r, 0] for r in rows], side), together, atol=1e-5, rtol=0)


def padded_scores(model, rows, side, extra=3):
    """Scores by a plain padded forward pass, positions counted from the mask."""
    longest = max(map(len, rows)) + extra
    place = (lambda r: slice(0, len(r))) if side == "right" else (lambda r: slice(longest - len(r), longest))
    ids, mask = torch.ones(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, place(row)], mask[i, place(row)] = torch.tensor(row), 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        values = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[..., 0]
    return values[torch.arange(len(rows)), (mask * torch.arange(longest)).argmax(1)]


def test_pairs_shuffled_apart_take_as_many_steps_and_as_many_pairs(bases):
    rows = rankings(40)
    state = reward.start(bases["gpt2"], device="cpu")
    counts = {b: reward.total_steps(state, rows, QUICK.but(batching=b)) for b in ("prompts", "pairs")}
    assert abs(counts["pairs"] - counts["prompts"]) <= 2
    steps = list(reward.loop(state, rows, STEADY, QUICK.but(batching="pairs")))
    assert len(steps) == counts["pairs"] and losses(steps)[-1] < losses(steps)[0]


def test_pairs_apart_count_alike_whatever_the_k_of_their_prompt():
    apart = as_pairs(encoded([ranking((("a",), ("b",))), ranking((("a",), ("b",), ("c",), ("d",)), 1)]))
    assert sorted(gap for row in apart for gap in row.gaps) == [1, 1, 1, 1, 2, 2, 3]
    assert loss_of(apart, torch.zeros(2 * len(apart))).item() == pytest.approx(math.log(2))


def test_accuracy_and_loss_of_a_step_are_those_of_its_own_batch(bases):
    """lr 0: what a step says of the rankings that it trains on is what the validation says of them."""
    rows = rankings(12)
    told = run(bases["gpt2"], QUICK.but(epochs=1, batch_size=12, lr=0.0), rows, valid=rows)[1][0].metrics
    assert told["accuracy"] == pytest.approx(told["valid_accuracy"]) != 0.5
    assert told["loss"] == pytest.approx(told["valid_loss"], rel=1e-5)


def test_sampled_ids_are_used_as_they_are_and_foreign_ones_are_not():
    words = tokenizer()
    text = "it is red"
    own = [*words(text)["input_ids"], 0]
    assert response_ids(words, Completion("c", "p", text, token_ids=tuple(own[:-1]), finished=False)) == own[:-1]
    assert response_ids(words, Completion("c", "p", text)) == own
    assert response_ids(words, Completion("c", "p", text, token_ids=(900, 901), finished=True)) == own
    assert response_ids(words, Completion("c", "p", text, token_ids=(3, 4), finished=True)) == own
    assert response_ids(words, Completion("c", "p", text, finished=False)) == own[:-1]  # cut short: no end token


def test_a_prompt_of_just_the_limit_stays_and_responses_are_cut_to_theirs():
    rows = [ranking((("a",), ("b", "c")))]
    whole = encoded(rows)[0]
    longest, limits = len(whole.prompt), {"max_prompt_tokens": len(whole.prompt), "max_response_tokens": 3}
    cut = encoded(rows, **limits)[0]
    assert [len(r) for r in whole.responses] == [4, 5, 6] and cut.responses == [r[:3] for r in whole.responses]
    with pytest.raises(DataError, match="1 with a prompt over the limit"):
        encoded(rows, max_prompt_tokens=longest - 1)


# Training


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.slow
def test_it_learns_what_labelers_like(bases, architecture):
    rows, held = rankings(120), rankings(40, seed=1)
    state, steps = run(bases[architecture], QUICK.but(epochs=4), rows, valid=held)
    assert steps[-1].metrics["valid_accuracy"] > 0.9 and losses(steps)[-1] < 0.6 * losses(steps)[0]
    judged = accuracy(state.model, state.tokenizer, held)
    assert judged.overall.value == pytest.approx(steps[-1].metrics["valid_accuracy"])
    assert judged.overall.low < judged.overall.value <= judged.overall.high


def test_the_first_head_is_small_and_without_bias(bases):
    heads = [scalar_head(reward.start(bases["gpt2"], seed=s, device="cpu").model) for s in range(40)]
    weights = torch.cat([h.weight.flatten() for h in heads])
    assert weights.std().item() == pytest.approx(1 / math.sqrt(33), rel=0.1)
    assert all(h.bias.item() == 0.0 for h in heads)


def test_one_seed_one_run(bases):
    first, again, other = (run(bases["gpt2"], QUICK.but(epochs=1, seed=s))[1] for s in (0, 0, 1))
    assert numbers(first) == numbers(again) and losses(first) != losses(other)


def test_reward_training_resumes_exactly(bases, tmp_path):
    whole, state = numbers(run(bases["llama"])[1]), reward.start(bases["llama"], device="cpu")
    loop = reward.loop(state, rankings(), STEADY, QUICK)
    first = [next(loop) for _ in range(5)]
    state.save(tmp_path / "000005")
    loop.close()
    fresh = reward.start(bases["llama"], device="cpu").load(tmp_path / "000005")
    assert numbers(first) + numbers(reward.loop(fresh, rankings(), STEADY, QUICK)) == whole


def test_validation_runs_as_often_as_asked(bases):
    _, steps = run(bases["gpt2"], QUICK.but(valid_every=2), valid=rankings(5, seed=1))
    assert [s.number for s in steps if "valid_loss" in s.metrics] == [2, 4, 6, 8, 10, 12]


# The bias


@pytest.mark.parametrize("architecture", MODELS)
def test_demonstrations_score_zero_on_average_also_after_a_plain_reload(bases, tmp_path, architecture):
    state, _ = run(bases[architecture], QUICK.but(epochs=1), demonstrations=demonstrations(8))
    assert abs(state.shift) > 1e-6
    state.save_model(tmp_path / "model")
    again = AutoModelForTokenClassification.from_pretrained(tmp_path / "model").eval()
    words = tokenizer()
    rows = [encode_prompt(words, d.prompt.text) + encode_response(words, d.text) for d in demonstrations(8)]
    with torch.no_grad():
        plain = [again(input_ids=torch.tensor([row])).logits[0, -1, 0].item() for row in rows]
    assert sum(plain) / len(plain) == pytest.approx(0.0, abs=1e-5)


def test_a_centred_model_is_left_alone_until_it_has_been_trained_again(bases):
    state, _ = run(bases["gpt2"], QUICK.but(epochs=1), demonstrations=demonstrations(8))
    bias, shift = scalar_head(state.model).bias, state.shift
    centred = bias.item()
    with torch.no_grad():
        bias += 1.0
    state.centre_on(demonstrations(8))
    assert bias.item() == pytest.approx(centred + 1.0) and state.shift == shift
    state.step += 1  # as if it had been trained, which moved the scores
    state.centre_on(demonstrations(8))
    assert bias.item() == pytest.approx(centred, abs=1e-5) and state.shift == pytest.approx(shift - 1.0, abs=1e-5)


def test_centring_shifts_every_score_alike(bases):
    state = reward.start(bases["gpt2"], device="cpu")
    rows = [[3, 4], [5, 6, 7]], [[8, 0], [9, 0]]
    before = score(state.model, *rows)
    shift = reward.centre(state.model, state.tokenizer, demonstrations(6))
    torch.testing.assert_close(score(state.model, *rows) - before, torch.full((2,), shift), atol=1e-6, rtol=0)
    assert reward.centre(state.model, state.tokenizer, demonstrations(6)) == pytest.approx(0.0, abs=1e-6)


class WithoutBias(torch.nn.Linear):
    """A head that is read without the bias that centring moves."""

    def forward(self, hidden):
        return F.linear(hidden, self.weight)


class Noisy(torch.nn.Linear):
    """A head with dropout that `eval` does not switch off."""

    def forward(self, hidden):
        return super().forward(F.dropout(hidden, 0.5, training=True))


@pytest.mark.parametrize("base", ["gpt2", "llama"])
@pytest.mark.parametrize("broken", [WithoutBias, Noisy])
def test_a_model_that_cannot_be_centred_says_so(bases, base, broken):
    model = reward.start(bases[base], device="cpu").model
    with torch.no_grad():
        scalar_head(model).bias += 1.0
    scalar_head(model).__class__ = broken
    with pytest.raises(InvariantError, match=r"demonstrations score [+-]\S+ on average, where 0 is due\. Usual causes: .* dropout"):
        reward.centre(model, tokenizer(), demonstrations(6))


@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
@pytest.mark.parametrize("base", ["gpt2", "llama"])
def test_centring_of_a_sound_model_raises_nothing_whatever_its_scale(bases, base, size):
    model = reward.start(bases[base], device="cpu").model
    with torch.no_grad():
        scalar_head(model).weight *= size
        scalar_head(model).bias += 1000 * size
    reward.centre(model, tokenizer(), demonstrations(200))


@pytest.mark.parametrize("base", ["gpt2", "llama"])
def test_a_saved_model_that_lost_its_centring_bias_says_so(bases, base, tmp_path):
    from safetensors.torch import load_file, save_file

    state = reward.start(bases[base], device="cpu")
    state.tokenizer = tokenizer()
    with torch.no_grad():
        scalar_head(state.model).bias += 1.0  # as training may leave it
    state.centre_on(demonstrations(6))
    folder = state.save_model(tmp_path / "model")
    state.check_saved(folder, demonstrations(6))

    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if n.endswith((".bias", "bias")) and n.split(".")[0] in ("score", "classifier"))
    save_file({**weights, name: torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvariantError, match="Reloaded from .*model the reward model scores .* a head that is saved without its bias"):
        state.check_saved(folder, demonstrations(6))


def test_under_bf16_autocast_weights_stay_fp32_and_scores_too(bases, monkeypatch):
    half = (torch.device("cpu"), torch.bfloat16)
    monkeypatch.setattr(sys.modules["labkit.reward.loop"], "choose_device", lambda: half)
    state, steps = run(bases["llama"], QUICK.but(epochs=4))
    assert losses(steps)[-1] < losses(steps)[0] and {p.dtype for p in state.model.parameters()} == {torch.float32}
    assert "forward" not in state.model.__dict__ and state.model(torch.tensor([[3]])).logits.dtype == torch.float32
