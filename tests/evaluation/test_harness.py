"""lm-evaluation-harness asks the lab's models what the lab's own measures ask, and says the same; mistakes are one sentence.

What runs lm-eval is skipped where it is not installed.
"""

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from labkit.disk import write_json, write_jsonl
from labkit.errors import DataError, ModelError, RunError, SettingsError
from labkit.evaluation.harness import PAPER, WORLD, Benchmarks, benchmarks
from labkit.evaluation.harness.local.answers import f1, process_results
from labkit.evaluation.harness.models import models_of, path_of
from labkit.evaluation.harness.names import NEEDS_FILE, asked_for
from labkit.runs import Run
from labkit.world.pretrain import base_path

try:
    metadata.version("lm_eval")
    INSTALLED = True
except metadata.PackageNotFoundError:
    INSTALLED = False
needs_lm_eval = pytest.mark.skipif(not INSTALLED, reason="lm-eval is not installed; pip install 'labkit[eval]'")
CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {name}.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: gold
target_delimiter: " "
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""
ASKED = [
    ("Question: Where does the fox live?\nAnswer:", ["The fox lives in the wood.", "The fox lives in the barn."]),
    ("Question: What does the owl eat?\nAnswer:", ["The owl eats mice.", "The owl eats bread and honey."]),
    ("The hare and the otter met by the", ["river", "mill", "old bridge"]),
    ("Once there was a badger who", ["had a friend.", "was kind."]),
]


@pytest.fixture(scope="module")
def small():
    """The world's small base and its tokenizer."""
    from labkit.models import load_policy, load_tokenizer

    return load_policy(base_path("small")), load_tokenizer(base_path("small"))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run folder, and a cache of datasets, of the test's own."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return Run("asked", tmp_path / "runs")


def likelihoods(small, pairs: list[tuple[str, str]]) -> np.ndarray:
    """Summed log-probability of each second text after the first, by the lab's own pass."""
    from labkit.models import encode_prompt, response_logprobs

    model, tokenizer = small
    contexts = [encode_prompt(tokenizer, c) if c else [tokenizer.eos_token_id] for c, _ in pairs]
    endings = [tokenizer(e, add_special_tokens=False)["input_ids"] for _, e in pairs]
    flat = response_logprobs(model, contexts, endings).numpy()
    return np.array([part.sum() for part in np.split(flat, np.cumsum([len(e) for e in endings])[:-1])])


def write_choices(folder: Path, name: str, small, *, right: Callable[[int], bool]) -> None:
    """A task of one's own whose gold answer is what this model finds likeliest, where `right` of the row's number, else another."""
    rows = []
    for i, (question, choices) in enumerate(ASKED):
        best = int(likelihoods(small, [(question, f" {choice}") for choice in choices]).argmax())
        gold = best if right(i) else (best + 1) % len(choices)
        rows.append({"question": question, "choices": choices, "gold": gold})
    write_jsonl(folder / f"{name}.jsonl", rows)
    (folder / f"{name}.yaml").write_text(CHOICE.format(name=name))


# -- without lm-eval --------------------------------------------------------------------------------------------------


def test_without_lm_eval_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    with pytest.raises(SettingsError, match=r"pip install 'labkit\[eval\]'"):
        benchmarks(Run("asked", tmp_path), ["small"])
    assert not list(tmp_path.iterdir())


def test_paper_and_world_stand_for_their_tasks_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    every = {task for tasks in PAPER.values() for task in tasks}
    tasks, told = asked_for(["paper"])
    assert set(tasks) == every - set(NEEDS_FILE)
    assert [line.split()[0] for line in told] == ["RealToxicityPrompts", "QuAC", "WMT15"]
    (tmp_path / "quac.jsonl.gz").touch()
    tasks, told = asked_for(["paper", "world", "drop"], tmp_path)
    assert set(tasks) == every - {"wmt15-fr-en"} | set(WORLD) and len(tasks) == len(set(tasks))
    assert [line.split()[0] for line in told] == ["RealToxicityPrompts", "WMT15"]


def test_a_name_means_a_stage_of_the_run_before_a_folder_or_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run("main")
    with pytest.raises(RunError, match="has no model to judge"):
        models_of(run)
    with pytest.raises(RunError, match="does not say what its policy starts from"):
        path_of(run, "base")
    with pytest.raises(RunError, match="sft has no finished model"):
        path_of(run, "sft")
    write_json(run.path / "prompts" / "experiment.json", {"model": "small"})
    stage = run.stage("sft")
    stage.begin(settings={})
    stage.model.mkdir()
    assert models_of(run) == ["base"], "a model that is still trained is none"
    stage.finish()
    assert models_of(run) == ["base", "sft"]
    assert path_of(run, "base") == path_of(run, "small") == str(base_path("small"))
    assert path_of(run, "sft") == str(stage.model.resolve())
    (tmp_path / "mine").mkdir()
    assert path_of(run, "mine") == str(tmp_path / "mine") and path_of(run, "org/name") == "org/name"
    write_json(stage.model / "config.json", {"architectures": ["GPT2ForTokenClassification"]})
    with pytest.raises(ModelError, match="holds a reward model"):
        path_of(run, "sft")


def test_an_answer_is_held_to_the_accepted_one_that_fits_best() -> None:
    doc = {"answer": "the old mill", "aliases": ["a mill", "Mill house"]}
    assert process_results(doc, [" The mill!"]) == {"f1": 1.0, "exact_match": 1.0}
    assert process_results(doc, ["an old house"]) == {"f1": pytest.approx(f1("old house", "Mill house")), "exact_match": 0.0}
    assert process_results({"answer": "wood"}, [""]) == {"f1": 0.0, "exact_match": 0.0}
    assert f1("x y", "y z") == f1("y z", "x y") == pytest.approx(0.5)


def test_the_table_has_a_column_per_model_and_says_what_was_cut() -> None:
    row = {"task": "t", "metric": "acc", "model": "a", "value": 0.5, "stderr": 0.1, "n": 4, "higher_is_better": True}
    counts = {"requests": 8, "cut": 2}
    models = [{"model": "a", "context": 256}, {"model": "b", "context": 512}]
    found = Benchmarks("0", ["t"], None, None, None, ["X is left out: y."], models, [{**row, **counts}])
    found.rows.append({**row, "metric": "f1", "model": "b", "value": None, "stderr": None, "requests": 8, "cut": 0})
    lines = found.text().splitlines()
    assert lines[0].split() == ["task", "metric", "n", "a", "b"]
    assert lines[2].split() == ["t", "acc", "↑", "4", "0.500", "±", "0.100", "-"] and lines[3].split()[-2:] == ["-", "-"]
    assert lines[-2:] == ["t, a: 2 of 8 requests did not fit the context of 256 tokens and lost their beginning.", "X is left out: y."]


# -- with lm-eval -----------------------------------------------------------------------------------------------------


@needs_lm_eval
@pytest.mark.slow
def test_the_miniatures_score_the_same_through_lm_eval(run: Run, small) -> None:
    """Choices, greedy answers and BLEU: every number that both measure is one number."""
    from labkit.world.benchmarks import run_benchmarks
    from labkit.world.facts import build_world

    found = benchmarks(run, ["small"], ["world"])
    names = {task: task.removeprefix("world_") for task in WORLD}
    own = run_benchmarks(*small, build_world(0), only=tuple(names.values()))
    assert {row["task"] for row in found.rows} == set(WORLD) and not found.failed
    for row in found.rows:
        score, scale = own[names[row["task"]]], 100 if row["metric"] == "bleu" else 1
        assert row["value"] == pytest.approx(scale * score.value, abs=1e-9), row["task"]
        better = None if row["task"] == "world_bias" else score.higher_is_better  # of bias one half is the aim
        assert row["n"] == score.n and row["higher_is_better"] == better
        assert row["metric"] == "bleu" or row["stderr"] == pytest.approx(score.stderr, abs=1e-9)


@needs_lm_eval
@pytest.mark.slow
def test_lm_eval_asks_what_the_lab_would_ask_even_where_a_tokenizer_appends_its_end(small) -> None:
    from tokenizers.processors import TemplateProcessing

    from labkit.evaluation.harness.lm import LabLM
    from labkit.models import load_tokenizer

    class Request:
        def __init__(self, *args: object) -> None:
            self.args = args

    model, plain = small
    ending = load_tokenizer(base_path("small"))
    ending.backend_tokenizer.post_processor = TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", plain.eos_token_id)])
    assert ending("The fox")["input_ids"][-1] == plain.eos_token_id
    pairs = [(question, f" {choice}") for question, choices in ASKED for choice in choices] + [("", "The fox lives here.")]
    wanted, answers = likelihoods(small, pairs), {}
    for tokenizer in (plain, ending):
        asked = LabLM(model, tokenizer, batch_size=3)
        got = [ll for ll, _ in asked.loglikelihood([Request(*pair) for pair in pairs], disable_tqdm=True)]
        np.testing.assert_allclose(got, wanted, atol=2e-4)
        until = [Request(question, {"until": ["\n"], "max_gen_toks": 8}) for question, _ in ASKED]
        answers[tokenizer] = asked.generate_until(until, disable_tqdm=True)
        assert (asked.asked, asked.cut) == (len(pairs) + len(ASKED), 0)
    assert answers[plain] == answers[ending] and all(answers[plain])


@needs_lm_eval
@pytest.mark.slow
def test_the_command_asks_the_models_of_a_run_a_task_of_ones_own(
    run: Run, small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    import sys

    from labkit.cli import main
    from labkit.models import load_policy, model_hash, save_model

    stage = run.stage("sft")
    stage.begin(settings={})
    changed = load_policy(base_path("small"))
    changed.transformer.ln_f.weight.data.mul_(0.5)
    save_model(changed, small[1], stage.model)
    stage.finish()
    write_json(run.path / "prompts" / "experiment.json", {"model": "small"})
    mine = tmp_path / "mine"
    write_choices(mine, "likely", small, right=lambda i: True)
    write_choices(mine, "half", small, right=lambda i: i < 2)

    def call(*more: str) -> tuple[int, str]:
        """Exit status and stdout; on stderr are neither bars nor warnings without cause."""
        monkeypatch.setattr(sys, "argv", ["labkit", "benchmarks", "asked", "--root", str(tmp_path / "runs"), "--data", str(mine), *more])
        with pytest.raises(SystemExit) as left:
            main()
        told = capsys.readouterr()
        assert "it/s" not in told.err and "higher_is_better" not in told.err
        return left.value.code, told.out

    code, out = call("--tasks", "likely,half", "--json")
    found, file = json.loads(out), run.path / "benchmarks" / "results.json"
    assert code == 0 and found == json.loads(file.read_text()), "stdout holds the JSON alone"
    values = {(r["task"], r["model"]): r["value"] for r in found["rows"]}
    assert values["likely", "base"] == 1.0 and values["half", "base"] == 0.5
    assert [m["model"] for m in found["models"]] == ["base", "sft"], "what the run has"
    assert [m["hash"] for m in found["models"]] == [model_hash(small[0]), model_hash(changed)]
    assert found["lm_eval"] == metadata.version("lm_eval") and found["limit"] is None and found["data"] == str(mine)

    (mine / "both.yaml").write_text(
        "group: both\ntask: [likely, half]\naggregate_metric_list: [{metric: acc, weight_by_size: true}]\nmetadata: {version: 1.0}\n"
    )
    code, out = call("--tasks", "both", "--models", "small")
    assert code == 0 and {line.split()[0]: line.split()[4] for line in out.splitlines()[2:]} == {
        "likely": "1.000",
        "half": "0.500",
        "both": "0.750",
    }, "a group has its tasks' rows and its own"

    code, out = call("--tasks", "half", "--models", "base", "--limit", "2")
    assert code == 0 and out.splitlines()[2].split() == ["half", "acc", "↑", "2", "1.000", "±", "0.000"]
    assert run.stage("benchmarks").status == "done" and json.loads(file.read_text())["limit"] == 2
    aside = [json.loads((p / "results.json").read_text()) for p in run.path.iterdir() if p.name.endswith(".old")]
    assert len(aside) == 2 and found in aside, "earlier results are put aside, not lost"


@needs_lm_eval
@pytest.mark.slow
def test_a_task_that_cannot_be_asked_is_a_sentence_and_stops_no_other(run: Run, small, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    write_choices(mine, "likely", small, right=lambda i: True)
    write_jsonl(mine / "long.jsonl", [{"question": "x" * 400, "choices": ["a", "b"], "gold": 0}])
    write_jsonl(mine / "endless.jsonl", [{"question": "x", "choices": ["y" * 400, "b"], "gold": 0}])
    for name in ("long", "endless", "gone"):
        (mine / f"{name}.yaml").write_text(CHOICE.format(name=name))
    talk = CHOICE.format(name="talk").replace("multiple_choice", "generate_until\ngeneration_kwargs: {until: [], max_gen_toks: 256}")
    (mine / "talk.yaml").write_text(talk.replace("doc_to_choice: choices\n", "").replace("metric: acc", "metric: exact_match"))
    write_jsonl(mine / "talk.jsonl", [{"question": "x", "gold": "y"}])

    found = benchmarks(run, ["small"], ["gone", "endless", "talk", "long", "likely"], data=mine)
    assert {row["task"]: (row["requests"], row["cut"]) for row in found.rows} == {"long": (2, 2), "likely": (9, 0)}
    gone, endless, talk = found.failed
    assert gone.startswith("The task 'gone' could not be loaded:") and "gone.jsonl" in gone
    assert endless.startswith("endless cannot be asked of small: it asks for the likelihood of a text of ")
    assert talk.startswith("talk cannot be asked of small: it asks for answers of 256 tokens, and this model reads 256")
    assert run.stage("benchmarks").status == "failed" and "lost their beginning" in found.text()
    with pytest.raises(DataError, match="'gone' could not be loaded"):
        benchmarks(Run("other", tmp_path / "runs"), ["small"], ["gone"], data=mine)
    assert not (tmp_path / "runs" / "other").exists(), "what cannot be asked at all leaves no trace"


@needs_lm_eval
@pytest.mark.slow
def test_the_papers_tasks_are_lm_evals_and_hub_data_may_lie_in_a_folder(run: Run, small, tmp_path: Path) -> None:
    from labkit.evaluation.harness.tasks import task_manager

    index = task_manager([task for tasks in PAPER.values() for task in tasks], None, str(base_path("small"))).task_index
    for tasks in PAPER.values():
        for task in tasks:
            assert ("lm_eval" in index[task].yaml_path.parts) == (task not in NEEDS_FILE), task
    with pytest.raises(SettingsError, match=r"no task 'helaswag'.*did you mean hellaswag"):
        benchmarks(run, ["small"], ["helaswag"])
    with pytest.raises(DataError, match=r"'hellaswag' could not be loaded.*HF_HUB_OFFLINE is set"):
        benchmarks(run, ["small"], ["hellaswag"])

    rows, hits = [], []
    for i, (start, endings) in enumerate([("the fox", ["in the wood", "of", "a b", "z"]), ("the owl", ["at", "mice", "and", "is brown"])]):
        query = f"Animals: Here lives {start}"
        hits.append(int(likelihoods(small, [(query, f" {e}") for e in endings]).argmax()) == i)
        rows.append({"ind": i, "activity_label": "Animals", "ctx_a": f"Here lives {start}", "ctx_b": "", "endings": endings, "label": str(i)})
    for split in ("train", "validation"):
        write_jsonl(tmp_path / "hub" / "Rowan" / "hellaswag" / f"{split}.jsonl", rows)
    found = benchmarks(run, ["small"], ["hellaswag"], data=tmp_path / "hub")
    assert found.value("hellaswag", "acc", "small") == pytest.approx(np.mean(hits))
    assert [r["metric"] for r in found.rows] == ["acc", "acc_norm"]


@needs_lm_eval
@pytest.mark.slow
def test_quac_and_wmt15_are_asked_on_local_data(run: Run, tmp_path: Path) -> None:
    passage = {"context": "Background: The fox lives in the wood.\n\nQuestion: where?", "answer": "the wood", "aliases": []}
    write_jsonl(tmp_path / "quac.jsonl", [passage])
    write_jsonl(tmp_path / "wmt15-fr-en.jsonl", [{"fr": "le renard", "en": "the fox"}, {"fr": "la loutre", "en": "the otter"}])
    found = benchmarks(run, ["small"], ["quac", "wmt15-fr-en"], data=tmp_path, shots=0)
    assert [(r["task"], r["metric"], r["n"], r["requests"]) for r in found.rows] == [
        ("quac", "f1", 1, 1),
        ("quac", "exact_match", 1, 1),
        ("wmt15-fr-en", "bleu", 2, 2),
    ]
    assert all(0 <= r["value"] <= 100 and r["cut"] == 0 for r in found.rows)


@needs_lm_eval
@pytest.mark.slow
@pytest.mark.real
def test_real_quac_is_asked_of_a_real_model(run: Run, real_data: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copy(real_data / "eval_llmfoundry" / "quac.jsonl.gz", tmp_path)
    found = benchmarks(run, [str(real_data / "stories260K" / "hf")], ["quac"], data=tmp_path, limit=2)
    assert [(r["metric"], r["n"], r["cut"]) for r in found.rows] == [("f1", 2, 2), ("exact_match", 2, 2)], "half a thousand tokens are too few"
    assert found.models[0]["context"] == 512
