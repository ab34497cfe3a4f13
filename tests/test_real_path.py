"""The whole path on a real model and real people's data: SFT, rankings, reward model, PPO-ptx, evaluation.

The model is `stories260K` (Llama, 260k weights, trained by others on children's stories); demonstrations are Dolly's,
comparisons HH's, rankings of K = 3 SQuALITY's reviewers', pretraining text Wikipedia's. Short, but no part is a stub.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

from labkit import ppo, reward, sft
from labkit.data.sources import load_demonstrations, load_rankings
from labkit.evaluation.winrate import judgments_of, win_rate
from labkit.jobs import Job
from labkit.knobs import Dial, PPOKnobs, RewardKnobs, SFTKnobs
from labkit.models import encode_prompt, encode_response, load_policy, load_reward_model, save_model, score
from labkit.reward.data import response_ids
from labkit.runs import Run
from labkit.sampling import complete
from labkit.sft import pretraining_pieces
from labkit.types import Completion, Demonstration, Prompt, Ranking

pytestmark = [pytest.mark.real, pytest.mark.slow]

SFT = sft.SFTSettings(epochs=2, batch_size=16, lr=2e-3, valid_samples=8, valid_response_tokens=24)
INIT = sft.init_settings(batch_size=16, lr=1e-3, pretrain_tokens=64)
REWARD = reward.RewardSettings(epochs=3, batch_size=16, lr=1e-3, micro_batch=4)
PPO = ppo.PPOSettings(steps=3, batch=32, minibatch=16, max_new_tokens=24, warmup=1, ptx_per_episode=1, ptx_row=64)


@pytest.fixture(scope="module")
def base(real_data: Path) -> Path:
    return real_data / "stories260K" / "hf"


@pytest.fixture(scope="module")
def demonstrations(real_data: Path) -> list[Demonstration]:
    """Dolly's shorter demonstrations: all that fit the model's context of 512 small tokens."""
    found = load_demonstrations(real_data / "dolly_hhrlhf_small" / "dolly_hhrlhf_train_small.jsonl.gz")
    return [d for d in found if len(d.prompt.text) < 350 and 20 < len(d.text) < 250][:180]


@pytest.fixture(scope="module")
def texts(real_data: Path) -> list[str]:
    """Paragraphs of Wikipedia."""
    with gzip.open(real_data / "text_wikitext2" / "valid.txt.gz", "rt", encoding="utf-8") as file:
        return [line.strip() for line in file if len(line) > 200]


def lines(file: Path) -> Iterator[dict]:
    with gzip.open(file, "rt", encoding="utf-8") as opened:
        yield from map(json.loads, opened)


def squality(real_data: Path) -> list[list[Ranking]]:
    """Per story the reviewers' rankings of three answers to each of its five questions, ties included.

    The prompt is the question alone: the story itself is longer than this model can read.
    """
    asked = {
        (story["metadata"]["passage_id"], q["question_number"]): q
        for story in lines(real_data / "squality" / "test.jsonl.gz")
        for q in story["questions"]
    }
    stories = []
    for passage in lines(real_data / "squality" / "human_eval_all-responses.jsonl.gz"):
        stories.append([])
        for number, systems in passage["questions"].items():
            question = asked[passage["passage-id"], int(number) + 1]  # counted from 0 here, from 1 there
            assert systems["human"]["response"][:100] in " ".join(r["response_text"] for r in question["responses"])
            stories[-1] += _reviews(f"{passage['passage-id']}-{number}", f"{question['question_text']}\n\n", systems)
    return stories


def _reviews(name: str, question: str, systems: dict) -> list[Ranking]:
    completions = tuple(Completion(s, name, found["response"], model=s) for s, found in systems.items())
    workers = {r["worker_id"] for found in systems.values() for r in found["reviews"]}
    made = []
    for worker in sorted(workers):
        ranks = {s: r["overall-rank"] for s, f in systems.items() for r in f["reviews"] if r["worker_id"] == worker}
        groups = [tuple(s for s in ranks if ranks[s] == rank) for rank in sorted(set(ranks.values()))]
        made.append(Ranking(Prompt(name, question), completions, tuple(groups), labeler=worker))
    return made


def run(folder: Run, stage: str, make, schedule, total: int, state, finish):
    job = Job(make, folder=folder.stage(stage), schedule=schedule, total=total, state=state, finish=lambda to: finish())
    job.start().result(block=True)
    assert job.folder.status == "done" and len(job.steps) == total
    return job.steps


def falls(steps: Sequence, metric: str = "loss") -> bool:
    """The mean of the last quarter lies below that of the first."""
    values = [s.metrics[metric] for s in steps]
    quarter = max(1, len(values) // 4)
    return sum(values[-quarter:]) < sum(values[:quarter])


def same(model: torch.nn.Module, folder: Path, loader: type) -> bool:
    """Whether plain transformers reads back these very weights, and a tokenizer with end and pad token beside them."""
    saved = loader.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.eos_token_id is not None and tokenizer.pad_token_id not in (None, tokenizer.eos_token_id)
    read = dict(saved.named_parameters())
    return all(torch.equal(p.cpu(), read[n]) for n, p in model.named_parameters())


def test_the_whole_path_on_a_real_model_and_real_data(base, real_data, demonstrations, texts, tmp_path):
    runs = Run("real", tmp_path)
    train, valid = demonstrations[:150], demonstrations[150:]

    # 1. SFT, and the model that PPO starts from
    policy = sft.start(base, device="cpu")
    where = runs.stage("sft").model
    steps = run(
        runs, "sft", lambda s: sft.loop(policy, train, s, SFT, valid=valid), Dial(SFTKnobs()),
        sft.total_steps(policy, train, SFT), policy, lambda: policy.save_model(where),
    )  # fmt: skip
    assert falls(steps) and policy.epochs[1]["valid_loss"] < policy.epochs[0]["valid_loss"]
    assert same(policy.model, where, AutoModelForCausalLM)
    init = sft.start(base, device="cpu")
    steps = run(
        runs, "ppo_init", lambda s: sft.init_loop(init, train, s, INIT, pretraining=texts), Dial(SFTKnobs()),
        sft.total_steps(init, train, INIT), init, lambda: init.save_model(runs.stage("ppo_init").model),
    )  # fmt: skip
    assert falls(steps) and same(init.model, runs.stage("ppo_init").model, AutoModelForCausalLM)

    # 2. The reward model, from rankings of three and comparisons of two
    pairs = load_rankings(real_data / "hh_rlhf_harmless" / "harmless-base_test.jsonl.gz")
    stories = squality(real_data)
    rankings = sum(stories[:10], []) + [r for r in pairs if len(r.prompt.text) < 300][:48]
    judge = reward.start(where, device="cpu")
    steps = run(
        runs, "reward", lambda s: reward.loop(judge, rankings, s, REWARD, demonstrations=train), Dial(RewardKnobs()),
        reward.total_steps(judge, rankings, REWARD), judge, lambda: judge.save_model(runs.stage("reward").model),
    )  # fmt: skip
    assert falls(steps) and same(judge.model, runs.stage("reward").model, AutoModelForTokenClassification)
    assert {len(r.completions) for r in rankings} == {2, 3}
    again = load_reward_model(runs.stage("reward").model, device="cpu")
    rows = [(encode_prompt(judge.tokenizer, d.prompt.text), encode_response(judge.tokenizer, d.text)) for d in train]
    assert score(again, [p for p, _ in rows], [r for _, r in rows]).mean().item() == pytest.approx(0.0, abs=1e-4)
    # On ten stories that it never read (27 November 2026, seeds 0 to 2: 0.62 to 0.68 of 450 pairs). Of HH's pairs 48 are too few:
    # on 300 others it is right as often as a coin (0.47 to 0.48, no interval leaves 0.5 out), so nothing is claimed of them.
    unseen = reward.accuracy(again, judge.tokenizer, sum(stories[10:], [])).overall
    assert unseen.low > 0.5 and unseen.pairs > 400

    # 3. PPO-ptx from the init model against the reward model
    start = load_policy(runs.stage("ppo_init").model, device="cpu")
    state = ppo.State(start, load_reward_model(runs.stage("reward").model, device="cpu"), init.tokenizer, PPO)
    prompts = [d.prompt for d in train if len(encode_prompt(init.tokenizer, d.prompt.text)) < 300]
    rows = torch.tensor(pretraining_pieces(init.tokenizer, texts, PPO.ptx_row, 64))
    reward_of = ppo.from_model(again)
    steps = run(
        runs, "ppo_ptx", lambda s: ppo.loop(state, prompts, reward_of, s, PPO, pretraining=rows),
        Dial(PPOKnobs(policy_lr=1e-4, value_lr=1e-3, kl_coef=0.02, ptx_coef=1.0)), PPO.steps, state,
        lambda: save_model(state.averaged_policy(), init.tokenizer, runs.stage("ppo_ptx").model),
    )  # fmt: skip
    assert steps[0].metrics["kl_k3"] < steps[-1].metrics["kl_k3"]  # the policy has left its reference
    assert all(s.metrics["ptx_loss"] > 0 and s.metrics["grad_norm_ptx"] > 0 for s in steps)
    assert same(state.averaged_policy(), runs.stage("ppo_ptx").model, AutoModelForCausalLM)

    # 4. Evaluation: which answers does the reward model prefer on prompts that nobody trained on?
    models = {m: load_policy(runs.stage(m).model, device="cpu") for m in ("sft", "ppo_ptx")}
    asked = [d.prompt for d in valid if len(encode_prompt(init.tokenizer, d.prompt.text)) < 300]
    drawn = {m: complete(model, init.tokenizer, asked, max_new_tokens=24, name=m) for m, model in models.items()}
    sheets = [_ranked(again, init.tokenizer, p, [drawn[m][i][0] for m in drawn]) for i, p in enumerate(asked)]
    rate = win_rate(judgments_of(sheets), "ppo_ptx", "sft")
    assert rate.n == len(asked) and 0.0 <= rate.low <= rate.rate <= rate.high <= 1.0


def _ranked(judge: torch.nn.Module, tokenizer, prompt: Prompt, completions: list[Completion]) -> Ranking:
    """The reward model as a labeler: completions in the order of their scores."""
    ids = encode_prompt(tokenizer, prompt.text)
    scores = score(judge, [ids] * len(completions), [response_ids(tokenizer, c) for c in completions]).tolist()
    groups = [
        tuple(c.id for c, s in zip(completions, scores, strict=True) if s == v)
        for v in sorted(set(scores), reverse=True)
    ]
    return Ranking(prompt, tuple(completions), tuple(groups), labeler="reward model")
