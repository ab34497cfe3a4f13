"""Graded exercises, the optimiser of pretraining, and the shipped base that has learnt to mark answers."""

import json
from dataclasses import asdict, replace
from itertools import islice

import pytest
import torch

from labkit.world.exercises import exercises
from labkit.world.facts import build_world
from labkit.world.judge import judge
from labkit.world.muon import Muon, orthogonal
from labkit.world.pretrain import CONTEXT, base_path, corpus_loss
from labkit.world.reader import ANSWERING, MARKING, likelihood_accuracy, marking_accuracy, taken, train_reader
from labkit.world.rows import packed_rows


@pytest.fixture(scope="module")
def world():
    return build_world()


@pytest.fixture(scope="module")
def some(world):
    return list(islice(exercises(world, seed=5), 400))


def test_right_answers_answer_and_wrong_ones_do_not(some):
    for exercise in some:
        content = [
            [min(judge(exercise.prompt, t).aspects[a] for a in ("follows", "truthful")) for t in texts]
            for texts in (exercise.right, exercise.wrong)
        ]
        assert min(content[0]) >= 0.9 > max(content[1])


def test_form_alone_does_not_tell_right_from_wrong(world):
    """Length, the crudest form of all, orders right and wrong answers hardly better than a coin."""
    some = islice(exercises(world, seed=5, stray=False), 400)
    longer = [
        (len(r.split()) > len(w.split())) - (len(r.split()) < len(w.split()))
        for e in some
        for r in e.right
        for w in e.wrong
    ]
    assert abs(sum(longer) / len(longer)) < 0.25


def test_stray_answers_only_add_wrong_ones(world, some):
    plain = {e.prompt.id: e for e in islice(exercises(world, seed=5, stray=False), 400)}
    both = [(e, plain[e.prompt.id]) for e in some if e.prompt.id in plain]
    assert len(both) > 300 and sum(len(e.wrong) > len(p.wrong) for e, p in both) > 200
    assert all(e.right == p.right and set(e.wrong) >= set(p.wrong) for e, p in both)


def test_no_held_out_fact_or_phrasing_is_used(world, some):
    for exercise in some:
        meaning = exercise.prompt.meaning
        assert not meaning["held_out"]["phrasing"]
        assert (meaning.get("entity"), meaning.get("relation")) not in world.held_out


def test_the_same_seed_gives_the_same_exercises(world):
    first, again, other = (list(islice(exercises(world, seed=s), 20)) for s in (1, 1, 2))
    assert first == again != other


def test_orthogonal_keeps_directions_and_evens_out_their_sizes():
    matrix = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonal(matrix) @ vt.T  # diagonal in the matrix's own bases
    assert (found - found.diag().diag()).abs().max() < 1e-3
    assert found.diag().min() > 0.6 and found.diag().max() < 1.3


def test_muon_is_torchs_own_but_for_its_precision():
    ours, theirs = (torch.nn.Parameter(torch.ones(16, 32)) for _ in range(2))
    both = (
        Muon([ours], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for step in range(4):
        gradient = torch.randn(16, 32, generator=torch.Generator().manual_seed(step))
        for parameter, optimizer in zip((ours, theirs), both, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    assert (ours - 1).abs().max() > 0.01
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


def test_the_shipped_reader_marks_exercises_it_never_saw_and_still_speaks(world):
    from transformers import AutoModelForCausalLM

    record = json.loads((base_path("reader") / "recipe.json").read_text())
    assert [record["before"]["recipe"], record["recipe"]] == [
        {**asdict(recipe), "betas": list(recipe.betas)} for recipe in (ANSWERING, MARKING)
    ]
    assert record["marking_accuracy"] > 0.9
    model = AutoModelForCausalLM.from_pretrained(base_path("reader")).float()
    from labkit.models import load_tokenizer

    rows = packed_rows(world, load_tokenizer(base_path("reader")), 16, CONTEXT, split="valid")
    assert corpus_loss(model, rows) < 1.3


@pytest.mark.slow
def test_a_fresh_head_reads_out_of_the_reader_what_it_cannot_read_out_of_the_base(world):
    """Ridge regression of right/wrong on the last hidden state: a linear probe, so nothing but the body can tell."""
    from labkit.models import load_tokenizer

    tokenizer = load_tokenizer(base_path("reader"))
    train, held = (taken(tokenizer, exercises(world, s), 300) for s in (7, 8))
    found = {name: probe(name, train, held) for name in ("reader", "medium")}
    assert found["reader"] > found["medium"] + 0.1 and found["reader"] > 0.8, found


def probe(name: str, train, held) -> float:
    """Pair accuracy on `held` of a linear head fitted to `train` by least squares of pair differences."""
    from labkit.models import new_reward_model

    model = new_reward_model(base_path(name), 0, device="cpu")
    x, y = [], []
    for prompt, responses, right in train:
        hidden = last_states(model, prompt, responses)
        x.append((hidden[:right, None] - hidden[None, right:]).flatten(0, 1))
    x = torch.cat(x)
    y = torch.ones(len(x))
    weights = torch.linalg.solve(x.T @ x + 10.0 * torch.eye(x.shape[1]), x.T @ y)
    with torch.no_grad():
        model.classifier.weight.copy_(weights[None])
    return marking_accuracy(model, held)


def last_states(model, prompt, responses) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack(
            [model.base_model(torch.tensor([[*prompt, *r]])).last_hidden_state[0, -1] for r in responses]
        )


def test_the_shipped_reader_finds_right_answers_likelier_than_the_base_does(world):
    from labkit.models import load_tokenizer, new_reward_model

    found = taken(load_tokenizer(base_path("reader")), exercises(world, 9, "valid"), 60)
    reader, medium = (
        likelihood_accuracy(new_reward_model(base_path(name), 0, device="cpu"), found) for name in ("reader", "medium")
    )
    assert reader > medium + 0.1 and reader > 0.85, (reader, medium)


@pytest.mark.slow
@pytest.mark.parametrize("course", [ANSWERING, MARKING])
def test_a_few_steps_of_the_command_leave_a_language_model_with_its_record(world, tmp_path, course):
    record = train_reader(
        tmp_path, replace(course, start="small", steps=3, questions=4, rows=1), world, report=lambda line: None
    )
    saved = json.loads((tmp_path / "recipe.json").read_text())
    assert saved["exercises"] == 12 and saved["recipe"]["start"] == "small"
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tmp_path).float()
    assert model.num_parameters() == record["parameters"]
