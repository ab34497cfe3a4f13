"""A full disk and torn files end in one sentence that names the file, and what lay on the disk stays whole."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from labkit import disk, sft
from labkit.disk import write_json
from labkit.errors import ModelError, RunError
from labkit.knobs import SFTKnobs, constant
from labkit.models import load_policy, load_reward_model, new_reward_model, save_model
from labkit.ppo import PPOSettings, State
from labkit.sft import SFTSettings
from tests.conftest import REPOSITORY
from tests.stages.animals import demonstrations, save_base, tokenizer

SETTINGS = PPOSettings(steps=1, batch=8, minibatch=8, max_new_tokens=4)

CASES = [("ppo", 20_000), ("ppo", 10), ("sft", 20_000), ("model", 200), ("model", 20_000), ("model", 200_000)]

# Each saves once, then again with a limit on the size of a file, which is how a full disk looks from inside.
FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.stages.test_disk import CASES, ppo_state, sft_state, many_words
from labkit.errors import RunError
from labkit.models import load_policy, save_model

base, out = Path(sys.argv[1]), Path(sys.argv[2])
policy, words = load_policy(base, device="cpu"), many_words()
save = {
    "ppo": ppo_state(base).save,
    "sft": sft_state(base).save,
    "model": lambda folder: save_model(policy, words, folder),
}
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
for kind, limit in CASES:
    folder = out / f"{kind}{limit}" / "000001"
    save[kind](folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
    try:
        save[kind](folder)
    except RunError as error:
        message = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    print(message)
"""


def ppo_state(base):
    return State(load_policy(base, device="cpu"), new_reward_model(base, 0, device="cpu"), tokenizer(), SETTINGS)


def sft_state(base):
    return sft.start(base, device="cpu")


def many_words():
    """A tokenizer whose file is larger than the toy's weights, so that it is the one that does not fit."""
    words = tokenizer()
    words.add_tokens([f"word{i}" for i in range(3000)])
    return words


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_files_whole_and_no_scratch(tmp_path):
    base, out = save_base(tmp_path / "base"), tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(base), str(out)],
        cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    for (kind, limit), message in zip(CASES, done.stdout.splitlines(), strict=True):
        folder = out / f"{kind}{limit}" / "000001"
        what = "model" if kind == "model" else "snapshot"
        assert message.startswith(f"The {what} {folder} could not be written: ") and "Free some space" in message
        assert [p.name for p in folder.parent.iterdir()] == ["000001"]
        if kind == "model":
            load_policy(folder, device="cpu")
        else:
            {"ppo": ppo_state, "sft": sft_state}[kind](base).load(folder)


@pytest.mark.parametrize("start", [ppo_state, sft_state])
def test_a_torn_snapshot_is_named_and_changes_nothing(tmp_path, start):
    base = save_base(tmp_path / "base")
    state = start(base)
    saved = state.save(tmp_path / "snapshot")
    for file in sorted(saved.iterdir()):
        whole = file.read_bytes()
        for size in (0, 5, len(whole) - 1):
            file.write_bytes(whole[:size])
            with pytest.raises(RunError, match=rf"snapshot is not a complete snapshot \({file.name}: .*choose another"):
                state.load(saved)
        file.write_bytes(whole)
    state.load(saved)


def test_a_snapshot_that_lacks_a_file_is_none_and_one_of_an_older_version_is_read(tmp_path):
    """Training would go on from step 0 with its weights, or without the moments, and say nothing."""
    base = save_base(tmp_path / "base")
    settings = SFTSettings(epochs=2, batch_size=16, choose_by="valid_loss")
    state = sft_state(base)
    loop = sft.loop(state, demonstrations(), constant(SFTKnobs()), settings, valid=demonstrations(4))
    list(islice(loop, 3))
    saved = state.save(tmp_path / "snapshot")
    loop.close()
    files = {f.name for f in saved.iterdir()} - {"state.json"}
    assert files == {"model.safetensors", "optimizer.safetensors", "kept.safetensors", "trainer_state.json"}
    facts = json.loads((saved / "state.json").read_text())
    del facts["files"]
    for older in (False, True):
        if older:
            write_json(saved / "state.json", facts)
        for name in files - ({"kept.safetensors"} if older else set()):
            (saved / name).rename(tmp_path / name)
            with pytest.raises(RunError, match=rf"is not a complete snapshot \({name}: .*choose another"):
                sft_state(base).load(saved)
            (tmp_path / name).rename(saved / name)
        assert sft_state(base).load(saved).step == 3


def test_a_snapshot_of_another_shape_is_refused_before_a_weight_changes(tmp_path):
    gpt2, llama = save_base(tmp_path / "a", seed=1), save_base(tmp_path / "b", "llama")
    policy, value = load_policy(gpt2, device="cpu"), new_reward_model(llama, 0, device="cpu")
    mixed = State(policy, value, tokenizer(), SETTINGS)  # its policy fits the snapshot, its value model does not
    before = policy.get_input_embeddings().weight.detach().clone()
    saved = ppo_state(save_base(tmp_path / "c", seed=2)).save(tmp_path / "snapshot")
    with pytest.raises(RunError, match="another model"):
        mixed.load(saved)
    assert (policy.get_input_embeddings().weight == before).all()


@pytest.mark.parametrize("load", [load_policy, load_reward_model])
def test_a_torn_model_is_named_with_a_remedy(tmp_path, load):
    base = save_base(tmp_path / "base")
    if load is load_reward_model:
        new_reward_model(base, 0, device="cpu").save_pretrained(base)
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model.safetensors is damaged \(.*make the model again"):
        load(base, device="cpu")
    (base / "config.json").write_text('{"model_type": ')
    with pytest.raises(ModelError, match=f"from {base}: .*config.json"):
        load(base, device="cpu")


def lock(monkeypatch, pattern):
    """Let files of these names be another user's: also where the tests run as root, who may read everything."""

    def refuse(file, *args, **options):
        if Path(file).match(pattern):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        return open(file, *args, **options)

    monkeypatch.setattr(disk, "open", refuse, raising=False)


@pytest.mark.parametrize(("umask", "rights"), [(0o022, 0o644), (0o077, 0o600)])
def test_what_is_saved_has_the_rights_that_the_umask_leaves(tmp_path, umask, rights):
    base = save_base(tmp_path / "base")
    before = os.umask(umask)
    try:
        ppo_state(base).save(tmp_path / "snapshot")
        sft_state(base).save(tmp_path / "other")
        save_model(load_policy(base, device="cpu"), tokenizer(), tmp_path / "model")
    finally:
        os.umask(before)
    files = [f for name in ("snapshot", "other", "model") for f in (tmp_path / name).iterdir()]
    assert len(files) > 8 and {f.stat().st_mode & 0o777 for f in files} == {rights}


def test_weights_of_another_user_are_not_called_damaged(tmp_path, monkeypatch):
    base, judge = save_base(tmp_path / "base"), save_base(tmp_path / "judge")
    new_reward_model(base, 0, device="cpu").save_pretrained(judge)
    snapshot = sft_state(base).save(tmp_path / "snapshot")
    for folder in (base, judge, snapshot):
        (folder / "model.safetensors").write_bytes(b"")  # loading fails, as it does where the file may not be read
    lock(monkeypatch, "*.safetensors")
    for load, path in ((load_policy, base), (load_reward_model, judge)):
        with pytest.raises(ModelError, match=rf"You may not read {path}/model.safetensors. Its owner .*chmod -R a\+rX {path}\.$"):
            load(path, device="cpu")
    with pytest.raises(RunError, match=r"^You may not read .*model.safetensors. Its owner .*, or choose another snapshot\."):
        sft_state(save_base(tmp_path / "mine")).load(snapshot)
