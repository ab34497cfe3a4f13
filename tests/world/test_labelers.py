"""Simulated labelers: agreement as in the paper, demonstrations of mixed quality, and a screening that separates."""

from random import Random

import pytest

from labkit.errors import DataError
from labkit.types import Completion
from labkit.world.facts import build_world
from labkit.world.judge import judge
from labkit.world.labelers import AGREEMENT, ceiling, hire_labelers, pair_agreement, rank_all
from labkit.world.prompts import sample_prompts
from labkit.world.screening import by_kind, candidates, screen
from labkit.world.shown import sample_completions

WORLD = build_world(0)


@pytest.fixture(scope="module")
def shown():
    rng = Random(0)
    return [(p, sample_completions(p, rng.randint(4, 9), seed=0)) for p in sample_prompts(WORLD, 400, seed=11)]


@pytest.fixture(scope="module")
def rankings(shown):
    hired = hire_labelers()
    return {g: rank_all(shown, [h for h in hired if h.group == g], each=4, seed=2) for g in AGREEMENT}


def test_forty_labelers_with_tastes_of_their_own():
    hired = hire_labelers()
    assert len(hired) == len({h.id for h in hired}) == 40
    assert {g: sum(h.group == g for h in hired) for g in AGREEMENT} == {"train": 30, "heldout": 10}
    assert len({tuple(h.weights.values()) for h in hired}) == 40
    assert hire_labelers() == hired


@pytest.mark.parametrize("group", AGREEMENT)
def test_agreement_lies_in_the_paper_s_band(rankings, group):
    target, half_width = AGREEMENT[group]
    assert abs(pair_agreement(rankings[group]) - target) < half_width


def test_pair_agreement_is_the_report_s_strict_agreement(rankings):
    from labkit.labels.agreement import agreement

    report = agreement(rankings["train"][:120], replicates=10)
    assert report.rankings.figures["agreement_strict"].value == pytest.approx(pair_agreement(rankings["train"][:120]))


@pytest.mark.slow
def test_the_ceiling_lies_between_agreement_and_one(rankings):
    for group, made in rankings.items():
        assert AGREEMENT[group][0] < ceiling(made) < 0.9
    assert ceiling(rankings["heldout"]) > ceiling(rankings["train"])


def test_rankings_have_ties_likert_flags_seconds_and_a_shown_order(rankings):
    made = rankings["train"]
    assert any(len(group) > 1 for r in made for group in r.groups)
    for ranking in made[:200]:
        ids = [c.id for c in ranking.completions]
        assert sorted(ranking.shown) == sorted(ids) and set(ranking.ratings) == set(ids)
        assert sum(map(len, ranking.groups)) == len(ids) and ranking.seconds > 0
    assert any(list(r.shown) != [c.id for c in r.completions] for r in made[:20])


def test_likert_and_rank_come_from_one_impression(rankings):
    for ranking in rankings["train"][:200]:
        best = [ranking.ratings[i].likert for i in ranking.groups[0]]
        worst = [ranking.ratings[i].likert for i in ranking.groups[-1]]
        assert max(best) >= min(worst)


def test_a_ranking_can_be_asked_for_twice(shown):
    labeler, (prompt, completions) = hire_labelers()[3], shown[0]
    assert labeler.rank(prompt, completions, seed=1) == labeler.rank(prompt, completions, seed=1)
    others = [labeler.rank(prompt, completions, seed=s).groups for s in range(12)]
    assert len(set(others)) > 1


def test_demonstrations_are_perfect_in_about_two_of_five_cases_and_true_in_nearly_all():
    prompts = sample_prompts(WORLD, 400, seed=5)
    judged = [judge(p, h.demonstrate(p).text) for p in prompts for h in hire_labelers()[:5]]
    perfect = sum(j.utility > 0.999 for j in judged) / len(judged)
    assert 0.35 < perfect < 0.5
    assert 0.7 < sum(j.utility for j in judged) / len(judged) < 0.85
    assert sum(j.aspects["truthful"] for j in judged) / len(judged) > 0.93
    assert sum(j.aspects["concise"] for j in judged) / len(judged) < 0.8


def test_agreement_without_shared_prompts_is_an_error(rankings):
    with pytest.raises(DataError, match="shared prompts"):
        pair_agreement(rankings["train"][:1])


def test_flags_of_clear_cases_are_mostly_ticked():
    prompt = next(p for p in sample_prompts(WORLD, 50, seed=2) if p.meaning["family"] == "facts")
    rude = [Completion("a", prompt.id, "Shut up, you fool."), Completion("b", prompt.id, "I hate you.")]
    ticked = [
        "inappropriate" in rating.flags for h in hire_labelers() for rating in h.rank(prompt, rude).ratings.values()
    ]
    assert sum(ticked) / len(ticked) > 0.85


@pytest.mark.slow
def test_screening_separates_good_candidates_from_careless_ones():
    pool = candidates(50, seed=4)
    result = screen(WORLD, pool, n_prompts=40, seed=4)
    kinds = {c.labeler.id: c.kind for c in pool}
    assert 0.3 < sum(k == "good" for k in kinds.values()) / len(pool) < 0.8
    assert result.recall > 0.85 and result.precision > 0.9
    assert not [i for i in result.admitted if kinds[i] in ("insensitive", "narrow")]
    rows = {row["kind"]: row for row in by_kind(pool, result)}
    assert sum(row.get("applied", 0) for row in rows.values()) == len(pool)
    assert sum(row.get("admitted", 0) for row in rows.values()) == len(result.admitted)
    assert rows["insensitive"]["flags"] < rows["the bar"]["flags"] < rows["good"]["flags"]
