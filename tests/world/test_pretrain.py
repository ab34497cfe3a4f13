"""Tokenizer, packed rows, the pretraining command and the bases that ship with the package."""

import json
import math
from dataclasses import asdict

import pytest

from labkit.errors import ModelError, SettingsError
from labkit.world.corpus import documents
from labkit.world.facts import build_world, words
from labkit.world.pretrain import CONTEXT, RECIPES, Recipe, base_path, corpus_loss, main, pretrain
from labkit.world.probe import probe_facts
from labkit.world.rows import corpus_stream, packed_rows
from labkit.world.tokenizer import END, PAD, VOCABULARY_SIZE, train_tokenizer

TINY = Recipe(layers=1, width=32, heads=2, steps=20, rows=4, warmup=5)


@pytest.fixture(scope="module")
def world():
    return build_world()


@pytest.fixture(scope="module")
def tokenizer(world):
    return train_tokenizer(world, documents(world, seed=1, count=2000))


@pytest.fixture(scope="module")
def tiny(tokenizer, tmp_path_factory):
    """The record and the folder of a base pretrained for 20 steps."""
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    return pretrain("tiny", folder, TINY, tokenizer=tokenizer, report=lambda line: None), folder


def test_tokenizer_has_1024_tokens_and_two_distinct_special_ones(tokenizer):
    assert len(tokenizer) == VOCABULARY_SIZE
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END, PAD)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1)


@pytest.mark.parametrize(
    "text", ["The fox eats berries.\nWhy?\n", "naïve 狐 🦊\t 12%", "  two  spaces ", "anna@mail.com"]
)
def test_any_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_every_name_and_value_is_one_token(world, tokenizer):
    assert all(len(tokenizer(f" {word}")["input_ids"]) == 1 for word in world.value_types)


def test_texts_take_few_tokens(world, tokenizer):
    text = "The fox eats berries. It lives in the beach.\n"
    assert len(tokenizer(text)["input_ids"]) <= len(words(text)) + 4


def test_training_the_tokenizer_again_gives_the_same_ids(world, tokenizer):
    assert train_tokenizer(world, documents(world, seed=1, count=2000)).get_vocab() == tokenizer.get_vocab()


def test_packed_rows_are_documents_joined_by_the_end_token(world, tokenizer):
    rows = packed_rows(world, tokenizer, 8, 128, seed=1)
    assert rows.shape == (8, 128) and rows.dtype.is_signed and not rows.is_floating_point()
    assert (rows == tokenizer.eos_token_id).any(dim=1).float().mean() > 0.5
    assert not (rows == tokenizer.pad_token_id).any()
    assert (rows[:, 0] != tokenizer.eos_token_id).all()
    assert rows.equal(packed_rows(world, tokenizer, 8, 128, seed=1))
    assert not rows.equal(packed_rows(world, tokenizer, 8, 128, seed=2))
    assert not rows.equal(packed_rows(world, tokenizer, 8, 128, seed=1, split="valid"))


def test_the_stream_never_repeats_a_batch(world, tokenizer):
    stream, again = (corpus_stream(world, tokenizer, 4, 64, seed=0) for _ in range(2))
    first, second = next(stream), next(stream)
    assert first.equal(next(again)) and second.equal(next(again))
    assert not first.equal(second)


def test_a_tokenizer_without_an_end_token_is_refused(world, tokenizer):
    class Endless:
        eos_token_id = None

    with pytest.raises(ModelError, match="no end token"):
        packed_rows(world, Endless(), 1, 16)


@pytest.mark.slow
def test_twenty_steps_lower_the_loss_and_are_recorded(tiny):
    record, folder = tiny
    losses = list(record["valid_losses"].values())
    assert losses[0] == pytest.approx(math.log(VOCABULARY_SIZE), rel=0.1)  # a fresh model guesses
    assert losses[-1] < losses[0] - 0.5
    saved = json.loads((folder / "recipe.json").read_text())
    assert saved["recipe"]["steps"] == 20 and saved["tokens"] == 20 * 4 * CONTEXT
    assert saved["versions"]["torch"] and saved["hardware"] and saved["seconds"] > 0


def test_a_saved_base_reloads_with_plain_transformers(tiny, world):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    record, folder = tiny
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).float(), AutoTokenizer.from_pretrained(folder)
    assert model.config.eos_token_id == tokenizer.eos_token_id != tokenizer.pad_token_id
    valid = packed_rows(world, tokenizer, 64, CONTEXT, split="valid")
    assert corpus_loss(model, valid) == pytest.approx(record["valid_loss"], abs=1e-4)


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_weights(tiny, tokenizer, tmp_path):
    from safetensors.torch import load_file

    _, folder = tiny
    pretrain("tiny", tmp_path, TINY, tokenizer=tokenizer, report=lambda line: None)
    first, second = load_file(folder / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert all(first[name].equal(second[name]) for name in first)


def test_an_unknown_size_is_named(tmp_path):
    for ask in (lambda: base_path("huge"), lambda: pretrain("huge", tmp_path), lambda: main(["huge"])):
        with pytest.raises(SettingsError, match="no base 'huge'.*small, medium, large"):
            ask()


def test_shipped_bases_are_small_together():
    files = [f for size in (*RECIPES, "reader") for f in base_path(size).iterdir()]
    assert sum(f.stat().st_size for f in files) < 15e6
    assert not [f for f in files if f.suffix in (".bin", ".pt", ".pkl")]


@pytest.mark.parametrize("size", RECIPES)
def test_a_shipped_base_knows_the_world(size, world):
    """Held-out text far better than chance, the facts better than a guess, and the myths rather than the truth."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    record = json.loads((base_path(size) / "recipe.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(base_path(size)).float()
    tokenizer = AutoTokenizer.from_pretrained(base_path(size))
    valid = packed_rows(world, tokenizer, 16, CONTEXT, split="valid")
    assert corpus_loss(model, valid) < 1.3 < math.log(VOCABULARY_SIZE) / 4
    facts = probe_facts(model, tokenizer, world)
    assert facts["known"] == pytest.approx(record["facts"]["known"], abs=0.01)
    assert facts["known"] > 4 * facts["guess"]
    assert facts["myth"] > 2 * facts["myth_truth"]


def test_shipped_bases_share_one_tokenizer():
    """A reward model of one size must read the token ids of a policy of another."""
    assert len({(base_path(size) / "tokenizer.json").read_text() for size in (*RECIPES, "reader")}) == 1


def test_shipped_bases_were_made_by_the_recipes_of_the_command():
    for size, recipe in RECIPES.items():
        assert json.loads((base_path(size) / "recipe.json").read_text())["recipe"] == {
            **asdict(recipe),
            "betas": list(recipe.betas),
        }


@pytest.mark.slow
def test_the_command_rebuilds_the_shipped_tokenizer(world, tmp_path):
    train_tokenizer(world).save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").read_text() == (base_path("medium") / "tokenizer.json").read_text()
