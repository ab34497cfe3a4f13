"""Models, rewards, rows and engines that a script hands over by mistake: a sentence where there was a wrong number or a library's error."""

from itertools import islice

import numpy as np
import pytest
import torch

from labkit import ppo, reward, sft
from labkit.errors import DataError, InvariantError, ModelError, SettingsError
from labkit.knobs import PPOKnobs, RewardKnobs, SFTKnobs, constant
from labkit.models import encode_prompt, encode_response, load_policy, new_reward_model, score
from labkit.sampling import Sampled, best_of_n, complete, sample
from labkit.types import Completion
from tests.stages import animals
from tests.toy import NumberTokenizer, even_share, save_toy, toy_prompts, toy_state

SETTINGS = ppo.PPOSettings(steps=1, batch=4, minibatch=2, max_new_tokens=4, warmup=0, ptx_row=32)
PTX = constant(PPOKnobs(ptx_coef=1.0))
DEMONSTRATIONS, RANKINGS = animals.demonstrations(8), animals.rankings(8)


@pytest.fixture
def folder(tmp_path):
    return save_toy(tmp_path / "init", "qwen2", spread=0.05)  # whose head is not its embeddings


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return animals.save_base(tmp_path_factory.mktemp("bases") / "gpt2")


@pytest.fixture
def judge(folder, tmp_path):
    new_reward_model(folder, 0, device="cpu").save_pretrained(tmp_path / "judge")
    return tmp_path / "judge"


def run(folder, pay=even_share, schedule=constant(PPOKnobs()), settings=SETTINGS, prompts=None, state=None, **options):  # noqa: B008
    state = state or toy_state(folder, SETTINGS)
    return list(islice(ppo.loop(state, toy_prompts(8) if prompts is None else prompts, pay, schedule, settings, **options), 1))


def test_a_reward_model_is_no_policy(judge):
    with pytest.raises(ModelError, match="ForTokenClassification.*head would be random"):
        load_policy(judge)
    with pytest.raises(ModelError, match="no language model.*load_policy"):
        sample(new_reward_model(judge, 0, device="cpu"), [[3, 4]], max_new_tokens=4, eos_id=2, seeds=[0])


def test_a_language_model_scores_nothing(folder, bases):
    policy = load_policy(folder, device="cpu")
    for ask in (
        lambda: score(policy, [[3]], [[4]]),
        lambda: reward.accuracy(sft.start(bases).model, animals.tokenizer(), RANKINGS),
        lambda: run(folder, state=ppo.State(policy, load_policy(folder, device="cpu"), NumberTokenizer(), SETTINGS)),
    ):
        with pytest.raises(ModelError, match="numbers for a token.*load_reward_model"):
            ask()


def test_nothing_to_score_is_no_score(folder):
    assert score(new_reward_model(folder, 0, device="cpu"), [], []).shape == (0,)


def test_the_value_model_is_not_the_reward_model_itself(folder):
    state = toy_state(folder, SETTINGS)
    for pay in (ppo.from_model(state.value), ppo.weighted([(1.0, even_share), (0.5, ppo.from_model(state.value))])):
        with pytest.raises(InvariantError, match="trained as the value model.*load it twice"):
            run(folder, pay, state=state)


def test_the_reference_is_not_the_policy_itself(folder):
    policy = load_policy(folder, device="cpu")
    with pytest.raises(SettingsError, match="reference is the policy itself"):
        ppo.State(policy, new_reward_model(folder, 0, device="cpu"), NumberTokenizer(), SETTINGS, reference=policy)


def test_what_a_state_was_made_with_is_what_the_loop_is_told(folder):
    with pytest.raises(SettingsError, match="lora_rank is 4.*State was made with 0"):
        run(folder, settings=SETTINGS.but(lora_rank=4))
    assert run(folder, settings=SETTINGS.but(steps=2, max_new_tokens=3))
    with pytest.raises(SettingsError, match="settings.*PPOSettings"):
        run(folder, settings=sft.SFTSettings())


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (torch.ones(9, 16, dtype=torch.int64), r"\(9, 16\).*ptx_row = 32"),
        (torch.ones(9, 32), "float32"),
        (torch.ones(300, dtype=torch.int64), r"\(300,\)"),
        (torch.ones(0, 32, dtype=torch.int64), r"\(0, 32\)"),
        ([[1] * 32] * 9, "a list.*pretraining_pieces"),
        (torch.full((9, 32), 4000), "4000.*vocabulary of 40"),
    ],
)
def test_pretraining_rows_are_rows_of_the_length_that_is_counted(folder, rows, told):
    with pytest.raises(DataError, match=told):
        run(folder, schedule=PTX, pretraining=rows)


def test_own_text_becomes_pretraining_rows(folder):
    rows = torch.tensor(sft.pretraining_pieces(NumberTokenizer(), ["3 4 5 " * 40] * 4, SETTINGS.ptx_row, 8))
    assert run(folder, schedule=PTX, pretraining=rows)[0].metrics["ptx_loss"] > 0
    with pytest.raises(DataError, match="one text.*list of texts"):
        sft.pretraining_pieces(NumberTokenizer(), "3 4 5 " * 400, 32, 2)


def test_every_loop_tells_what_is_no_schedule(folder, bases):
    with pytest.raises(SettingsError, match=r"constant\(PPOKnobs"):
        run(folder, schedule=PPOKnobs())
    with pytest.raises(SettingsError, match=r"constant\(SFTKnobs"):
        next(sft.loop(sft.start(bases), DEMONSTRATIONS, SFTKnobs(), sft.SFTSettings(epochs=1)))
    with pytest.raises(SettingsError, match=r"constant\(RewardKnobs"):
        next(reward.loop(reward.start(bases), RANKINGS, constant(PPOKnobs()), reward.RewardSettings()))


def test_every_loop_takes_a_generator_and_tells_what_it_cannot_learn_from(folder, bases):
    assert run(folder, prompts=(p for p in toy_prompts(8)))[0].metrics == pytest.approx(run(folder)[0].metrics, abs=100)
    assert next(sft.loop(sft.start(bases), (d for d in DEMONSTRATIONS), constant(SFTKnobs()), sft.SFTSettings(epochs=1)))
    assert next(reward.loop(reward.start(bases), (r for r in RANKINGS), constant(RewardKnobs()), reward.RewardSettings()))
    with pytest.raises(DataError, match="prompts hold '3 4'"):
        run(folder, prompts=["3 4"])
    with pytest.raises(DataError, match=r"demonstrations hold \('3', '4'\)"):
        next(sft.loop(sft.start(bases), [("3", "4")], constant(SFTKnobs()), sft.SFTSettings()))
    with pytest.raises(DataError, match="rankings hold {'prompt'"):
        next(reward.loop(reward.start(bases), [{"prompt": "3", "chosen": "4", "rejected": "5"}], constant(RewardKnobs()), reward.RewardSettings()))
    with pytest.raises(DataError, match="demonstrations hold '3'"):
        reward.centre(reward.start(bases).model, animals.tokenizer(), ["3"])
    with pytest.raises(DataError, match="prompts hold '3 4'"):
        complete(load_policy(folder, device="cpu"), NumberTokenizer(), ["3 4"])


@pytest.mark.parametrize(
    ("pay", "told"),
    [
        (lambda folder: new_reward_model(folder, 0, device="cpu"), r"model.*from_model"),
        (lambda folder: None, "NoneType.*from_texts"),
        (lambda folder: ppo.weighted([]), "no reward"),
        (lambda folder: ppo.weighted([(even_share, 1.0)]), r"\(weight, reward\)"),
        (lambda folder: ppo.weighted({"even": even_share}), r"\(weight, reward\)"),
        (lambda folder: ppo.weighted([(1.0, new_reward_model(folder, 0, device="cpu"))]), "from_model"),
        (lambda folder: ppo.from_texts(NumberTokenizer(), even_share), "from_texts"),
        (lambda folder: ppo.from_texts(words_of_a_text, NumberTokenizer()), "words_of_a_text"),
        (lambda folder: reward.Ensemble(even_share), "list"),
    ],
)
def test_what_is_no_reward_is_told(folder, pay, told):
    with pytest.raises((DataError, SettingsError), match=told):
        run(folder, pay(folder))


def words_of_a_text(prompts, responses):
    return [None for _ in responses]


def test_rewards_may_be_given_as_they_come(folder):
    as_list = lambda prompts, responses: [1.0 for _ in responses]  # noqa: E731
    as_generator = ppo.from_texts(lambda prompts, responses: (1.0 for _ in responses), NumberTokenizer())
    for pay in (ppo.weighted((w, as_list) for w in (0.5, 0.5)), as_generator, reward.Ensemble(r for r in (as_list, as_generator))):
        assert set(pay([[3], [4]], [[5], [6]]).tolist()) == {1.0} and set(pay([[3]], [[5]]).tolist()) == {1.0}


@pytest.mark.parametrize("gold", [lambda prompts, texts, finished: [0.5], lambda prompts, texts: [0.5] * 4])
def test_a_gold_function_is_told_what_it_owes(folder, gold):
    with pytest.raises(DataError, match=r"gold function.*<lambda>.*4"):
        run(folder, gold=gold)


def test_a_reward_that_chooses_the_epoch_owes_one_score_each(bases):
    settings = sft.SFTSettings(epochs=1, valid_response_tokens=4)
    one_for_all = lambda prompts, responses: [0.0]  # noqa: E731
    with pytest.raises(DataError, match=r"shape \(1,\) for 8 validation samples"):
        list(sft.loop(sft.start(bases), DEMONSTRATIONS, constant(SFTKnobs()), settings, valid=DEMONSTRATIONS, reward=one_for_all))


def test_seeds_of_numpy_are_seeds_and_others_are_told(folder):
    policy, ids, rules = load_policy(folder, device="cpu"), [[3, 4], [5]], {"max_new_tokens": 4, "eos_id": 2}
    expected = [s.ids for s in sample(policy, ids, seeds=[0, 1], **rules)]
    for seeds in (np.arange(2), torch.arange(2), (i for i in range(2))):
        assert [s.ids for s in sample(policy, ids, seeds=seeds, **rules)] == expected
    assert [s.ids for s in sample(policy, [torch.tensor([3, 4]), np.array([5])], seeds=[0, 1], **rules)] == expected
    for seeds in (1, None, [None, 1], [True, 1], [1.5, 2]):
        with pytest.raises(SettingsError, match="seeds"):
            sample(policy, ids, seeds=seeds, **rules)
    assert torch.equal(new_reward_model(folder, np.int64(3)).score.weight, new_reward_model(folder, 3).score.weight)
    for seed in (None, True, 1.5):
        with pytest.raises(SettingsError, match="seed is"):
            new_reward_model(folder, seed)


@pytest.mark.parametrize("wrong", [{"temperature": None}, {"temperature": [0.5, 1.0]}, {"max_new_tokens": None}, {"max_new_tokens": 2.5}])
def test_rules_of_sampling_are_numbers(folder, wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        sample(load_policy(folder, device="cpu"), [[3]], **{"seeds": [0], "eos_id": 2, "max_new_tokens": 4, **wrong})


@pytest.mark.parametrize("prompts", [["3 4"], [[3, 4000]], [[-1]], [3, 4], [[1.5]]])
def test_prompts_to_sample_from_are_ids_of_the_model(folder, prompts):
    with pytest.raises(DataError, match="[Pp]rompt"):
        sample(load_policy(folder, device="cpu"), prompts, seeds=[0] * len(prompts), max_new_tokens=4, eos_id=2)


class Mine:
    """An engine that says what it is told to."""

    name, context = "mine", None

    def __init__(self, answer):
        self.answer = answer

    def draw(self, asked):
        return self.answer(asked)


def test_an_engine_that_lacks_a_part_is_told_what_an_engine_has():
    class Half:
        def draw(self, asked):
            return []

    for model in (Half(), None, "path"):
        with pytest.raises(ModelError, match="name, context and draw"):
            complete(model, NumberTokenizer(), toy_prompts(2))


@pytest.mark.parametrize(
    "answer",
    [
        lambda asked: [],
        lambda asked: None,
        lambda asked: [Sampled([4, 2], [-1.0, -1.0], True)] * (2 * len(asked)),
        lambda asked: [([4, 2], [-1.0, -1.0], True)] * len(asked),
        lambda asked: [Sampled([4] * 9, [-1.0] * 9, False)] * len(asked),
        lambda asked: [Sampled([4, 2], [-1.0], True)] * len(asked),
        lambda asked: [Sampled([], [], False)] * len(asked),
    ],
)
def test_what_an_engine_may_not_answer_is_told(answer):
    with pytest.raises(ModelError, match="engine mine"):
        complete(Mine(answer), NumberTokenizer(), toy_prompts(2), max_new_tokens=4)


def test_an_engine_of_ones_own_answers():
    drawn = complete(Mine(lambda asked: (Sampled([4, 2], [-1.0, -1.0], True) for _ in asked.prompts)), NumberTokenizer(), toy_prompts(2))
    assert [c[0].text for c in drawn] == ["4", "4"]


def test_the_best_of_n_takes_scores_as_they_come():
    group = [Completion(f"c{i}", "p0", "4") for i in range(3)]
    assert [c.id for c in best_of_n([group], lambda flat: [0.0, 2.0, 1.0])] == ["c1"]
    assert [c.id for c in best_of_n([group], lambda flat: np.array([0.0, 2.0, 1.0]))] == ["c1"]
    assert best_of_n([], lambda flat: []) == []
    for scores in ([0.0], [float("nan")] * 3, None):
        with pytest.raises(DataError, match="best of n"):
            best_of_n([group], lambda flat, scores=scores: scores)
    with pytest.raises(DataError, match="no completion"):
        best_of_n([[]], lambda flat: [])


def test_models_are_given_as_models_and_texts_as_texts(folder):
    with pytest.raises(DataError, match="from_model takes a model.*load_reward_model"):
        ppo.from_model(str(folder))
    with pytest.raises(ModelError, match="policy is .*load_policy"):
        ppo.State(str(folder), new_reward_model(folder, 0, device="cpu"), NumberTokenizer(), SETTINGS)
    with pytest.raises(ModelError, match="value is .*load_reward_model"):
        ppo.State(load_policy(folder, device="cpu"), None, NumberTokenizer(), SETTINGS)
    for encode in (encode_prompt, encode_response):
        with pytest.raises(DataError, match="None.*text"):
            encode(animals.tokenizer(), None)
