"""The README's launch lines, with two CPU processes in place of its GPUs: the run folder is that of one process."""

import os
import shlex
import shutil
import socket
import subprocess
import sys

import pytest
from transformers import AutoModelForCausalLM

from labkit import reward
from labkit.errors import RunError
from labkit.experiment import Experiment
from labkit.experiment.batches import batch_of
from labkit.experiment.launch import main, prepared
from labkit.runs import Run
from tests.conftest import REPOSITORY
from tests.readme import commands

pytestmark = pytest.mark.slow


LINES = [shlex.split(line) for line in commands() if "labkit.experiment.launch" in line]
(PLAIN,) = [line for line in LINES if line[0] == "python"]
SEVERAL = [line for line in LINES if "--num_machines" in line]
ONE_MACHINE = [line for line in LINES if line[0] == "accelerate" and line not in SEVERAL]
ROWS = "ptx_row=32"  # the smoke scale has one long row per minibatch, which two processes cannot share


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """What PPO starts from; its reward model is an untrained one, which is as good here."""
    run = Run("mine", tmp_path_factory.mktemp("runs"))
    made = Experiment(run, scale="smoke", model="small", reward_base="small")
    made.prepare()
    made.sft_job(init=True).start().result(block=True)
    reward.start(made.reward_base).save_model(run.stage("reward").model)
    return made


def here(words, root, **values):
    """The command for this machine: this interpreter's accelerate, these values of its options, runs under `root`."""
    found = [sys.executable, "-m", "accelerate.commands.accelerate_cli", *words[1:], "--root", str(root), "-p", ROWS]
    for name, value in values.items():
        found[found.index(f"--{name}") + 1] = str(value)
    if "main_process_port" not in values:
        found.insert(found.index("launch") + 1, "--main_process_port=0")
    return found


def environment():
    return os.environ | {"LABKIT_DEVICE": "cpu", "OMP_NUM_THREADS": "1", "LABKIT_HEADLESS": "1"}


def copy_of(lab, root):
    shutil.copytree(lab.run.path, root / "mine", ignore=shutil.ignore_patterns("alone", "ppo_ptx*"))
    return Run("mine", root)


@pytest.fixture(scope="module")
def alone(lab):
    """One process, here."""
    lab.ppo_job(name="alone", ptx_row=32).start().result(block=True)
    return lab.run.stage("alone")


def check_equal(two, one):
    assert two.status == "done" and len(two.steps()) == len(one.steps()) == 2
    for a, b in zip(one.steps(), two.steps(), strict=True):
        numbers = [{k: v for k, v in s.metrics.items() if not k.startswith("time_")} for s in (a, b)]
        assert numbers[1] == pytest.approx(numbers[0], rel=5e-3, abs=5e-4, nan_ok=True)
    for number in (1, 2):  # the first process writes the episodes of all, in the batch's order
        rows = [batch_of(f, number)["episodes"] for f in (one, two)]
        assert [[r["prompt_id"], r["seed"]] for r in rows[0]] == [[r["prompt_id"], r["seed"]] for r in rows[1]]
        assert number > 1 or [r["token_ids"] for r in rows[0]] == [r["token_ids"] for r in rows[1]]
    models = [AutoModelForCausalLM.from_pretrained(f.model) for f in (one, two)]
    for p, q in zip(*(m.parameters() for m in models), strict=True):
        assert (p - q).abs().max() < 2e-3


@pytest.mark.parametrize("words", ONE_MACHINE, ids=lambda words: "sharded" if "--use_fsdp" in words else "data parallel")
def test_a_line_of_the_readme_gives_the_run_of_one_process(lab, alone, tmp_path, words):
    """Sharded also with checkpointed layers: the backward pass gathers their weights once more."""
    run = copy_of(lab, tmp_path)
    words = [*words, *(["-p", "gradient_checkpointing=true"] if "--use_fsdp" in words else [])]
    ended = subprocess.run(
        here(words, tmp_path, num_processes=2), env=environment(), cwd=REPOSITORY, capture_output=True, text=True, timeout=580
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout.count("ppo_ptx: done after step 2") == 1, ended.stdout
    check_equal(run.stage("ppo_ptx"), alone)
    assert run.stage("ppo_ptx").snapshots(), "written by the first process, for all"


def test_the_line_for_several_machines_gives_it_too(lab, alone, tmp_path):
    (words,) = SEVERAL
    run = copy_of(lab, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    values = {"num_processes": 2, "main_process_ip": "127.0.0.1", "main_process_port": port}
    started = [
        subprocess.Popen(
            here(words, tmp_path, machine_rank=rank, **values),
            env=environment(), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    said = [machine.communicate(timeout=500)[0] for machine in started]
    assert [machine.returncode for machine in started] == [0, 0], "\n".join(said)[-3000:]
    check_equal(run.stage("ppo_ptx"), alone)


def in_a_process(root, *options):
    """`python -m labkit.experiment.launch mine ppo_ptx ...` in a new process."""
    command = [sys.executable, "-m", "labkit.experiment.launch", "mine", "ppo_ptx", "--root", str(root), *options]
    ended = subprocess.run(command, env=environment(), cwd=REPOSITORY, capture_output=True, text=True, timeout=580)
    assert ended.returncode == 0, ended.stderr[-3000:]


def test_twenty_steps_are_ten_a_new_process_and_ten_more(lab, tmp_path):
    straight, parted = copy_of(lab, tmp_path / "straight"), copy_of(lab, tmp_path / "parted")
    in_a_process(tmp_path / "straight", "-p", "steps=20")
    in_a_process(tmp_path / "parted", "-p", "steps=10")
    in_a_process(tmp_path / "parted", "-p", "steps=20", "--resume")
    folders = [run.stage("ppo_ptx") for run in (straight, parted)]
    one, two = ([{k: v for k, v in s.metrics.items() if not k.startswith("time_")} for s in f.steps()] for f in folders)
    assert len(one) == 20 and one == two
    models = [AutoModelForCausalLM.from_pretrained(f.model).state_dict() for f in folders]
    assert all(models[0][name].equal(models[1][name]) for name in models[0])


def test_the_line_for_little_memory_runs(lab, tmp_path, capsys):
    run = copy_of(lab, tmp_path)
    main([*PLAIN[3:], "--root", str(tmp_path)])
    settings = run.stage("ppo_ptx").manifest["settings"]
    assert settings["gradient_checkpointing"] is True and settings["lora_rank"] == 8
    assert "done after step 2" in capsys.readouterr().out


def test_a_launched_run_goes_on_from_its_snapshot(lab, tmp_path, capsys, monkeypatch):
    """In one process, which takes the same way; and settings of the command line reach the job."""
    run = copy_of(lab, tmp_path)
    main(["mine", "ppo", "--root", str(tmp_path), "-p", "kl_coef=0.05", "-p", "lora_rank=2", "-p", "max_grad_norm=none"])
    folder = run.stage("ppo")
    assert folder.manifest["settings"]["lora_rank"] == 2 and folder.manifest["settings"]["max_grad_norm"] is None
    assert {s.knobs["kl_coef"] for s in folder.steps()} == {0.05} and {s.knobs["ptx_coef"] for s in folder.steps()} == {0.0}
    assert (folder.path / "adapters" / "adapter_config.json").is_file()
    with pytest.raises(SystemExit):
        main(["mine", "ppo", "--root", str(tmp_path), "-p", "lora_rank=2", "-p", "max_grad_norm=1", "-p", "steps=3", "--resume"])
    assert "ppo cannot be resumed: the setting max_grad_norm was None, here it is 1." in capsys.readouterr().err
    options = ["-p", "kl_coef=0.05", "-p", "lora_rank=2", "-p", "max_grad_norm=none", "-p", "steps=3", "--resume"]
    main(["mine", "ppo", "--root", str(tmp_path), *options])
    assert [s.number for s in folder.steps()] == [1, 2, 3] and "done after step 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none", "ppo"], "none was not prepared"),
        (["mine", "ppo", "-p", "kl_coef=11"], "kl_coef is 11; it must lie between 0 and 10"),
        (["mine", "ppo", "-p", "kl=1"], "There is no knob 'kl'"),
        (["mine", "ppo", "-p", "gradient_checkpointing=maybe"], "it must be True or False"),
    ],
)
def test_errors_are_one_sentence(lab, capsys, arguments, sentence):
    with pytest.raises(SystemExit):
        main([*arguments, "--root", str(lab.run.path.parent)])
    said = capsys.readouterr().err
    assert sentence in said and len(said.splitlines()) == 1


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(RunError, match="labkit run new --only 01_prompts"):
        prepared(Run("new", tmp_path))
    (tmp_path / "new" / "prompts").mkdir(parents=True)
    (tmp_path / "new" / "prompts" / "experiment.json").write_text('{"scale": "smoke", "seed": 0}')
    with pytest.raises(RunError, match="ppo_init has no finished model; run that stage first"):
        prepared(Run("new", tmp_path))
