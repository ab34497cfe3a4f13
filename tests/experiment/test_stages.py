"""What must hold between the stages of one whole run, and what can be seen of it; then what is refused."""

import json
import re
import shutil
import time
from dataclasses import replace

import pytest

from labkit import reward
from labkit.disk import read_jsonl, write_json
from labkit.errors import DataError, RunError
from labkit.experiment import (
    Experiment,
    ask,
    beside_paper,
    evaluate,
    evaluate_now,
    inspected,
    judge_rankings,
    live,
    load_evaluation,
    retrain_on_labels,
    sample_now,
    tasks_by_hand,
    worst_disagreements,
)  # fmt: skip
from labkit.experiment.batches import batch_of
from labkit.experiment.beside import PARTS
from labkit.experiment.needs import parents_that_changed
from labkit.labels.session import LabelSession
from labkit.labels.state import Draft
from labkit.labels.store import labels_path
from labkit.models import decode, encode_prompt, encode_response, load_reward_model, model_hash, score
from labkit.runs import Run
from tests.experiment.stepped import metrics

pytestmark = pytest.mark.slow


def test_every_stage_is_done_and_names_what_it_was_made_from(lab):
    assert {s.path.name for s in lab.run.stages()} == {"sft", "ppo_init", "reward", "ppo", "ppo_ptx"}
    for stage in lab.run.stages():
        assert stage.status == "done" and stage.manifest["versions"]["torch"] and stage.manifest["parents"]
    parents = {stage.path.name: stage.manifest["parents"] for stage in lab.run.stages()}
    assert parents["ppo"] == parents["ppo_ptx"] and set(parents["ppo"]) == {"prompts", "ppo_init", "reward", "pretraining"}
    assert set(parents["sft"]) == {"demonstrations", "base"} and set(parents["ppo_init"]) == {"demonstrations", "base", "pretraining"}
    assert set(parents["reward"]) == {"demonstrations", "rankings", "labels", "reward_base"}
    assert not any(parents_that_changed(lab.run, name) for name in parents)


def test_no_prompt_or_customer_crosses_a_split_or_a_use(lab):
    splits = {s: lab.prompts(s) for s in ("train", "valid", "test")}
    users = {s: {p.user for p in prompts} for s, prompts in splits.items()}
    assert not users["train"] & users["test"] and not users["train"] & users["valid"]
    shares = [{p.id for p in lab.prompts("train", use)} for use in ("sft", "reward", "ppo")]
    assert sum(map(len, shares)) == len(set.union(*shares)) == len(splits["train"])


def test_the_reward_model_scores_demonstrations_zero_on_average(lab):

    judge, written = load_reward_model(lab.run.stage("reward").model), lab.demonstrations()
    rows = [
        [encode_prompt(lab.tokenizer, d.prompt.text) for d in written],
        [encode_response(lab.tokenizer, d.text) for d in written],
    ]
    assert abs(score(judge, *rows).mean().item()) < 1e-4


def test_ppo_keeps_its_promises_on_real_stages(lab):
    for stage in ("ppo", "ppo_ptx"):
        rows = metrics(lab, stage)
        assert rows[0]["kl_k1"] == pytest.approx(0.0, abs=1e-3)
        assert all(0 <= row["gold"] <= 1 and 0 <= row["end_token_rate"] <= 1 for row in rows)
    assert "grad_cosine" in metrics(lab, "ppo_ptx")[0] and "grad_cosine" not in metrics(lab, "ppo")[0]


def test_the_sft_epoch_was_chosen_by_the_reward_model(lab):
    facts = json.loads((lab.run.path / "sft" / "epochs.json").read_text())
    assert facts["chosen"]["by"] == "rm_score"
    assert facts["chosen"]["rm_score"] == max(e["rm_score"] for e in facts["epochs"])


def test_new_cards_show_the_newest_policy_and_old_ones_stay(lab, tmp_path):
    run = Run("whole", tmp_path)
    shutil.copytree(lab.run.path, run.path)
    shutil.rmtree(run.path / "labels", ignore_errors=True)
    trained = run.path / "ppo_ptx"
    trained.rename(run.path / "later")
    again = Experiment(run, scale="smoke")
    old = tasks_by_hand(again, 2)
    (run.path / "later").rename(trained)
    both = tasks_by_hand(again, 4)
    kinds = [{c.model.split("-")[0] for c in answers} for _, answers in both]
    assert both[:2] == old and all("ppo_ptx" not in kind for kind in kinds[:2])
    assert any("ppo_ptx" in kind for kind in kinds[2:]) and not any("base" in kind for kind in kinds[2:])


def test_a_process_that_ended_before_the_epoch_was_chosen_leaves_the_choice_to_the_next(lab, tmp_path):
    run = Run("whole", tmp_path)
    shutil.copytree(lab.run.path, run.path)
    file = run.path / "sft" / "epochs.json"
    chosen = json.loads(file.read_text())
    by_loss = min(chosen["epochs"], key=lambda e: e["valid_loss"])
    write_json(file, {"epochs": chosen["epochs"], "chosen": {**by_loss, "by": "valid_loss"}})
    said: list[str] = []
    again = Experiment(run, scale="smoke")
    again.ensure("reward", "ppo_init", say=said.append)
    assert json.loads(file.read_text())["chosen"]["by"] == "rm_score" and len(said) == 1 and "Choosing the epoch" in said[0]
    again.ensure("reward", say=said.append)
    assert len(said) == 1, "once is enough"


def test_evaluation_judges_every_model_and_is_kept(lab):
    result = evaluate(
        lab,
        ["base", "few-shot", "sft", "best-of-4", "ppo", "ppo_ptx"],
        prompts=lab.prompts("test")[:8],
        benchmarks=False,
        training_prompts=4,
    )
    kept = load_evaluation(lab.run)
    assert kept.to_json() == result.to_json()
    assert result.notes == ["Only 8 prompts: too few to say."] and not replace(result, prompts=20).notes
    assert {q["model"] for q in result.quality} == set(result.models)
    assert all(0 <= r["low"] <= r["rate"] <= r["high"] <= 1 for r in result.preferences)
    judged = list(read_jsonl(lab.run.path / "evaluate" / "judgments.jsonl"))
    made_from = {"base", "demonstrations", "sft", "reward", "ppo", "ppo_ptx"}  # and prompts that were given
    assert set(lab.run.stage("evaluate").manifest["parents"]) == made_from and parents_that_changed(lab.run, "evaluate") == []
    both = result.customers_table()
    assert {(r["model"], r["judges"]) for r in both} == {(m, g) for m in ("base", "ppo", "ppo_ptx") for g in result.groups[:2]}
    assert {r["count"] for r in result.on_training} == {4 * 3} and all("%" in r["training prompts"] for r in both)
    assert len(judged) >= 3 * 5 * 8 and {"prompt_id", "a", "b", "preference", "judge"} == set(judged[0])


def test_one_can_look_at_answers_rankings_and_disagreements(lab):
    rows = ask(lab, lab.prompts("valid")[:3], ["base", "ppo"])
    assert [set(r) for r in rows] == [{"prompt", "base", "ppo"}] * 3
    judged = judge_rankings(lab)
    assert 0.5 <= judged.ceiling <= 1 and judged.pairs and 0 <= judged.accuracy.overall.value <= 1
    (ranking, table), *_ = worst_disagreements(lab, count=1)
    assert len(table) == len(ranking.completions) and {"RM score", "gold", "rank"} <= set(table[0])


@pytest.mark.parametrize("part", PARTS)
def test_the_paper_stands_beside_what_the_run_really_has(lab, part):
    rows = {row["setting"]: row for row in beside_paper(lab, part)}
    assert all(row["here"] and row["why"] for row in rows.values())
    counted = {"demonstrations": lab.demonstrations(), "prompts ranked for training": lab.rankings()}
    if few := rows.get("few-shot prefix"):
        assert few["here"].endswith(f"on {len(lab.prompts('valid'))} of them") and len(lab.prompts("valid")) < 64
    for name, found in counted.items():
        assert rows.get(name, {"here": f"{len(found):,}"})["here"] == f"{len(found):,}"
    assert all((row["paper"].split(" (")[0] == row["here"]) <= (row["why"] == "as in the paper") for row in rows.values())


def test_labels_by_hand_train_a_reward_model_at_once_and_join_the_next_one(lab, monkeypatch):
    desk = LabelSession(tasks_by_hand(lab, 4), "ann", labels_path(lab.run.path, "ann"))
    before = len(lab.rankings())
    for _ in range(3):
        ids = [c.id for c in desk.current.cards]
        desk.submit(Draft(groups=((ids[0],), tuple(ids[1:]))))
    lines: list[str] = []
    begun, start = [], reward.start
    monkeypatch.setattr(reward, "start", lambda path, **options: begun.append((path, options)) or start(path, **options))
    said = retrain_on_labels(lab, desk, lines.append)
    (rate, low, high, pairs), held = map(float, re.search(r"accuracy (\S+) \[(\S+), (\S+)\] of (\d+) pairs", said).groups()), desk.rankings[-1]
    assert low <= rate <= high and pairs == len(held.pairs()) and "on 1 prompt: too few to say" in said
    assert f"accuracy {rate:.2f} of {len(held.pairs())} pairs on 1 prompt" in [x for x in lines if x.startswith("step")][-1]
    assert begun == [(lab.reward_base, {"seed": lab.seed})], "the run's own model may have learnt these labels"
    desk.close()
    assert len(lab.rankings()) == before + 3
    shutil.rmtree(lab.run.path / "labels")


def test_a_job_in_progress_can_be_asked_for_samples(lab, monkeypatch):
    """Samples are of the policy as it stands; what is judged is what would be kept, its average."""
    asked, complete = [], live.complete
    monkeypatch.setattr(live, "complete", lambda model, *given, **how: asked.append(model) or complete(model, *given, **how))
    job = lab.ppo_job(name="asked").start(paused=True)
    job.step()
    while not job.steps:
        time.sleep(0.01)
    rows = job.ask(
        lambda: sample_now(lab, job)([lab.prompts("valid")[0].text, "What is the colour of the fox?\n"])
    ).result(60)
    numbers = job.ask(lambda: evaluate_now(lab, job)([p.text for p in lab.prompts("valid")[:4]])).result(60)
    stands, kept = (m.state_dict() for m in (job.state.plain_policy, job.state.averaged_policy()))
    assert asked[0] is job.state.plain_policy and any(not kept[n].equal(stands[n]) for n in kept)
    assert all(kept[name].equal(weights) for name, weights in asked[1].state_dict().items())
    job.stop()
    job.result(block=True)
    assert 0 <= numbers["low"] <= numbers["win_rate"] <= numbers["high"] <= 1 and {"score", "gold", "words"} < set(numbers)
    assert numbers["n"] == 4 * 3 and "4 prompt" in numbers["note"] and "too few to say" in numbers["note"]
    assert len(rows) == 2 and "gold" in rows[0] and "gold" not in rows[1]


def test_the_inspectors_token_view_has_the_numbers_that_the_stage_trained_on(lab, monkeypatch):
    seen = []
    monkeypatch.setattr(inspected, "token_view", lambda *given, **how: seen.append((given, how)))
    parts = inspected.inspect_run(lab, prompts=2)
    assert [r["source"] for r in parts["rows"][:5]] == ["base", "sft", "best-of-8", "ppo", "ppo_ptx"]
    assert len({r["prompt_id"] for r in parts["rows"][:5]}) == 1, "one prompt's answers side by side"
    for row in parts["rows"][:5]:
        parts["explain"](row)
    last = lab.run.stage("ppo_ptx").steps()[-1].knobs
    ((_, _, ids), how) = seen[-1]
    assert (how["kl_coef"], how["gae_lambda"], how["temperature"]) == (last["kl_coef"], last["gae_lambda"], last["temperature"])
    assert decode(lab.tokenizer, list(ids)) == parts["rows"][4]["response"]
    value, judge = (how[name].state_dict() for name in ("value", "reward"))
    assert any(not value[n].equal(judge[n]) for n in judge), "the value model has learnt since it was the reward model"
    assert seen[1][1]["value"] is seen[1][1]["reward"], "SFT has no value model of its own"
    monkeypatch.undo()
    again = inspected.inspect_run(lab, prompts=1, best_of=2)
    assert "advantage" in again["explain"](parts["rows"][4]).columns and again["rows"][2]["source"] == "best-of-2"


def test_an_episode_of_a_whole_batch_is_seen_in_the_tokens_that_were_sampled(lab):
    explain, (stage, number) = inspected.explain_samples(lab, ["ppo_ptx"]), (lab.run.stage("ppo_ptx"), 2)
    kept = batch_of(stage, number)
    assert len(kept["episodes"]) == lab.preset.ppo.batch and kept["policy"]["weights"] == model_hash(lab.policy("ppo_init"))
    for row in kept["episodes"][:6]:
        seen = explain({**row, "source": "ppo_ptx", "step": number})
        assert len(seen.tokens) == len(row["token_ids"]) and "falls into" not in seen.facts["note"]


def test_another_seed_under_the_same_name_is_refused(lab):
    with pytest.raises(RunError, match="was prepared with seed = 0, now it is 5"):
        Experiment(lab.run, scale="smoke", seed=5)
    with pytest.raises(RunError, match="Run 01_prompts first"):
        Experiment(Run("empty", lab.run.path.parent), scale="smoke").prompts()


def test_models_on_disk_load_with_plain_transformers(lab):
    from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(lab.run.path / "ppo_ptx" / "model")
    ids = tokenizer("What", return_tensors="pt")["input_ids"]
    AutoModelForCausalLM.from_pretrained(lab.run.path / "ppo_ptx" / "model")(ids)
    assert AutoModelForTokenClassification.from_pretrained(lab.run.path / "reward" / "model")(ids).logits.shape[-1] == 1
    assert decode(tokenizer, ids[0].tolist()) == "What"


def test_missing_files_of_ones_own_are_named(tmp_path):
    with pytest.raises(DataError, match="There is no folder"):
        _ = Experiment(Run("x", tmp_path), scale="smoke", model="small", data=str(tmp_path / "none")).source
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError, match=r"demonstrations.jsonl is missing: SFT learns from it"):
        Experiment(Run("x", tmp_path), scale="smoke", model="small", data=str(tmp_path / "mine")).prepare()


def test_the_notebooks_own_numbers_are_the_presets(repository):
    from labkit.batch import read_parameters
    from labkit.presets import preset

    declared = read_parameters(repository / "notebooks" / "05_ppo_ptx.ipynb")
    knobs = preset("tour").ppo_knobs
    assert {n: declared[n].default for n in ("kl_coef", "ptx_coef")} == {
        n: getattr(knobs, n) for n in ("kl_coef", "ptx_coef")
    }
