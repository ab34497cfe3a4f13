"""A reward model whose tokenizer is not the policy's is refused before anything trains, in one sentence that names both."""

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from labkit.errors import ModelError
from labkit.experiment import Experiment
from labkit.experiment.vocabulary import shared_tokenizer
from labkit.models import load_tokenizer
from labkit.runs import Run
from labkit.world.pretrain import base_path

WORLD = str(base_path("small"))
TEXT = ["The quick brown fox jumps over the lazy dog.", "Pack my box with five dozen liquor jugs."] * 20


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A small model with a byte-level BPE of its own, learnt from other text."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"], show_progress=False))
    folder = tmp_path / "foreign"
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>").save_pretrained(folder)
    GPT2LMHeadModel(GPT2Config(vocab_size=301, n_positions=256, n_embd=16, n_layer=1, n_head=2)).save_pretrained(folder)
    return folder


def changed(folder: Path, **tokens: str) -> str:
    """The world's tokenizer with other special tokens."""
    shutil.copytree(WORLD, folder)
    tokenizer = load_tokenizer(WORLD)
    for name, token in tokens.items():
        tokenizer.add_special_tokens({name: token})
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("use", [Experiment.prepare, Experiment.sft_job, Experiment.reward_job, Experiment.ppo_job, Experiment.rank])
def test_a_foreign_tokenizer_is_refused_before_anything_is_made(foreign, tmp_path, use) -> None:
    lab = Experiment(Run("mixed", tmp_path / "runs"), scale="smoke", model="small", reward_base=str(foreign))
    if use is not Experiment.prepare:  # as a run that was prepared before this was asked
        good = Experiment(Run("good", tmp_path / "runs"), scale="smoke", model="small", reward_base="small")
        good.prepare()
        shutil.copytree(good.run.path, lab.run.path, ignore=shutil.ignore_patterns("experiment.json"))
        for stage in ("sft", "ppo_init", "reward"):
            shutil.copytree(WORLD, lab.run.stage(stage).model)
        (lab.run.path / "rankings").mkdir()
    before = sorted(lab.run.path.rglob("*"))
    said = r"starts from .*small and the reward model from .*foreign, whose vocabularies differ \(1,023 and \d+ tokens; .* is token "
    with pytest.raises(ModelError, match=said):
        use(lab)
    assert sorted(lab.run.path.rglob("*")) == before


def test_the_sentence_names_a_token_that_tells_them_apart(foreign) -> None:
    with pytest.raises(ModelError, match="give a reward_base with the policy's tokenizer, or none") as raised:
        shared_tokenizer(WORLD, str(foreign))
    word = str(raised.value).split("tokens; ")[1].split(" is ")[0]
    ids = [load_tokenizer(path).get_vocab().get(eval(word)) for path in (WORLD, foreign)]
    assert ids[0] != ids[1] and all(i is None or f"token {i} of" in str(raised.value) for i in ids)


def test_the_same_words_with_another_end_token_are_refused_and_with_another_pad_token_are_not(tmp_path) -> None:
    ours = load_tokenizer(WORLD)
    word = next(w for w, i in ours.get_vocab().items() if i == 500)
    with pytest.raises(ModelError, match="which end a response with different tokens"):
        shared_tokenizer(WORLD, changed(tmp_path / "end", eos_token=word))
    assert shared_tokenizer(WORLD, changed(tmp_path / "pad", pad_token="<another pad>")).get_vocab() == ours.get_vocab()


@pytest.mark.parametrize("model", ["small", "medium", "large"])
def test_the_worlds_bases_and_the_reader_go_together(tmp_path, model) -> None:
    lab = Experiment(Run("whole", tmp_path), scale="smoke", model=model)
    assert lab.facts["reward_base"] == "reader" and len(lab.tokenizer) > 1000
