"""How a reward model is judged, by gap, labeler and groups of labelers; several as one; and what a quick one is measured on."""

import random
from dataclasses import replace

import pytest
import torch

from labkit import reward
from labkit.errors import DataError, SettingsError
from labkit.models import load_policy, new_reward_model, response_logprobs, score
from labkit.models.loading import scalar_head
from labkit.reward import Ensemble, accuracy, labeler_folds
from labkit.reward.report import share
from tests.stages.animals import rankings, tokenizer
from tests.stages.test_reward import QUICK, STEADY, ranking, reward_loop


def test_accuracy_by_gap_and_by_labeler_add_up_to_the_whole(bases):
    judged = accuracy(reward.start(bases["gpt2"], device="cpu").model, tokenizer(), rankings(40))
    for parts in (judged.by_gap, judged.by_labeler):
        assert sum(p.pairs for p in parts.values()) == judged.overall.pairs
        right = sum(p.value * p.pairs for p in parts.values())
        assert right / judged.overall.pairs == pytest.approx(judged.overall.value)
    assert set(judged.by_labeler) == {f"l{i}" for i in range(6)} and set(judged.by_gap) <= {1, 2, 3}


def test_intervals_cover_and_grow_when_pairs_of_a_prompt_go_together():
    rng = random.Random(0)
    covered = {"apart": 0, "together": 0}
    for _ in range(200):
        apart = share((str(i), float(rng.random() < 0.7)) for i in range(150))
        coins = [float(rng.random() < 0.7) for _ in range(30)]
        together = share((str(i), coins[i]) for i in range(30) for _ in range(5))
        assert together.high - together.low > apart.high - apart.low
        covered["apart"] += apart.low <= 0.7 <= apart.high
        covered["together"] += together.low <= 0.7 <= together.high
    assert all(count >= 180 for count in covered.values()), covered  # 95 % of 200, with room for chance
    alike = share((str(i), 1.0) for i in range(30) for _ in range(5))
    assert alike.low == share((str(i), 1.0) for i in range(30)).low < 1.0, "where all agree a prompt counts once"


def test_equal_scores_count_one_half(bases):
    model = new_reward_model(bases["gpt2"], 0, device="cpu")
    with torch.no_grad():
        scalar_head(model).weight.zero_()
    assert accuracy(model, tokenizer(), rankings(10)).overall.value == 0.5


def test_folds_keep_labelers_and_prompts_apart():
    rows = [*rankings(90), *(replace(r, labeler=f"l{i % 5}") for i, r in enumerate(rankings(90)))]  # most prompts by two labelers
    folds = labeler_folds(rows, groups=3)
    assert labeler_folds(rows, groups=3) == folds != labeler_folds(rows, groups=3, seed=1)
    assert sorted(name for f in folds for name in f.labelers) == [f"l{i}" for i in range(6)]
    for fold in folds:
        train, held = {r.prompt.id for r in fold.train}, {r.prompt.id for r in fold.own + fold.held_out}
        assert not train & held and {r.labeler for r in fold.held_out} == set(fold.labelers)
        assert not {r.labeler for r in fold.train + fold.own} & set(fold.labelers)
    with pytest.raises(DataError, match="6 labeler.s. cannot be split into 7 groups"):
        labeler_folds(rows, groups=7)


def test_an_ensemble_is_between_its_members_and_never_above_its_mean(bases):
    models = [reward.start(bases["gpt2"], seed=s, device="cpu").model for s in range(3)]
    prompts, responses = [[3, 4], [5, 6, 7]], [[8, 0], [9, 0]]
    each = Ensemble(models).members(prompts, responses)
    mean, worst, careful = (Ensemble(models, how=h)(prompts, responses) for h in ("mean", "worst", "uncertainty"))
    torch.testing.assert_close(mean, torch.stack([score(m, prompts, responses) for m in models]).mean(0))
    assert (worst <= mean).all() and (careful < mean).all() and (worst == each.min(0).values).all()
    twice = Ensemble(models, how="uncertainty", weight=2.0)(prompts, responses)
    torch.testing.assert_close(mean - twice, 2 * (mean - careful))
    twins = Ensemble([models[0], lambda p, r: score(models[0], p, r)], how="uncertainty", weight=9.0)
    torch.testing.assert_close(twins(prompts, responses), each[0])
    with pytest.raises(SettingsError, match="how is 'best'"):
        Ensemble(models, how="best")


def test_likelihood_prefers_what_the_language_model_expects(bases):
    model = load_policy(bases["llama"], device="cpu")
    with torch.no_grad():
        expected = int(model(torch.tensor([[3, 4]])).logits[0, -1].argmax())
    others = [t for t in range(3, 15) if t != expected]
    scores = reward.likelihood(model)([[3, 4]] * 13, [[expected], *([t] for t in others), [expected, expected]][:13])
    assert scores.shape == (13,) and scores.argmax() == 0 and (scores < 0).all()
    (of_three,) = reward.likelihood(model)([[3, 4]], [[5, 6, 7]])
    assert 3 * of_three == pytest.approx(response_logprobs(model, [[3, 4]], [[5, 6, 7]]).sum())  # of a token, whatever the length


def test_retraining_on_a_few_rankings_reports_held_out_accuracy_at_every_step(bases):
    state = reward.start(bases["gpt2"], device="cpu")
    steps = list(reward.retrain(state, rankings(12), STEADY, QUICK.but(batch_size=4)))
    assert len(steps) == 6 and all("valid_accuracy" in s.metrics for s in steps)
    with pytest.raises(DataError, match="at least 2 prompts"):
        reward.retrain(state, rankings(1), STEADY, QUICK)


def test_retraining_learns_nothing_from_the_newest_prompts_on_which_it_is_measured(monkeypatch):
    given = {}
    monkeypatch.setattr(reward_loop, "loop", lambda state, train, *_, valid, **__: given.update(train=train, valid=valid))
    rows = rankings(10)
    another = replace(rows[9], labeler="another")  # what somebody else says of a prompt that is held out
    reward.retrain(None, [*rows, another, ranking((("a", "b"),), 77)], STEADY, QUICK)
    assert given == {"train": rows[:8], "valid": [*rows[8:], another]}
