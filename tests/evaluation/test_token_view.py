"""Attribution and the token view on toy models: columns obey the identities that define them."""

import pytest
import torch

from labkit.evaluation.token_view import COLUMNS, token_view
from labkit.models import load_policy, new_reward_model, response_logprobs, score
from labkit.models.loading import scalar_head
from labkit.reward.attribution import gradient_x_input, occlusion
from labkit.reward.scorer import text_scorer
from tests.toy import END, NumberTokenizer, save_toy, toy_rows

TOKENIZER = NumberTokenizer()


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def models(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    paths = [save_toy(folder / str(i), request.param, seed=i, spread=0.2) for i in range(2)]
    policy, reference = (load_policy(p, device="cpu") for p in paths)
    return {
        "policy": policy,
        "reference": reference,
        "reward": new_reward_model(paths[0], 0, device="cpu"),
        "value": new_reward_model(paths[1], 1, device="cpu"),
    }


def test_columns_obey_their_definitions(models) -> None:
    view = token_view(TOKENIZER, "3 4 5", "6 7 8 9", **models, kl_coef=0.1, gae_lambda=1.0)
    assert set(view.columns) == set(COLUMNS) and len(view.tokens) == 5 and view.tokens[-1] == "<end>"
    c = {name: torch.tensor(v, dtype=torch.float64) for name, v in view.columns.items()}
    torch.testing.assert_close(c["KL (k1)"], c["log π"] - c["log π_ref"], atol=1e-6, rtol=1e-5)
    assert c["prefix reward"][-1] == pytest.approx(view.score)
    assert score(models["reward"], [[3, 4, 5]], [[6, 7, 8, 9, END]])[0].item() == pytest.approx(view.score, abs=1e-5)
    before = score(models["reward"], [[3, 4]], [[5]])[0].item()
    assert before + c["change of reward"].sum().item() == pytest.approx(view.score, abs=1e-5)
    assert c["reward"].sum().item() == pytest.approx(view.score - 0.1 * c["KL (k1)"].sum().item(), abs=1e-5)
    togo = c["reward"].flip(0).cumsum(0).flip(0)
    torch.testing.assert_close(c["advantage"], togo - c["value"], atol=1e-5, rtol=1e-4)
    ours = response_logprobs(models["policy"], [[3, 4, 5]], [[6, 7, 8, 9, END]])
    torch.testing.assert_close(c["log π"].float(), ours, atol=1e-5, rtol=1e-5)
    without = score(models["reward"], [[3, 4, 5]], [[6, 7, 8, 9]])[0].item()
    assert c["occlusion"][-1].item() == pytest.approx(view.score - without, abs=1e-5)
    whole = gradient_x_input(models["reward"], [3, 4, 5], [6, 7, 8, 9, END])
    assert c["gradient × input"].tolist() == pytest.approx(whole[3:], abs=1e-5)


def test_a_policy_that_is_its_own_reference_has_no_kl_at_any_temperature(models) -> None:
    view = token_view(TOKENIZER, "3 4 5", "6 7 8", policy=models["policy"], reference=models["policy"], temperature=0.3)
    assert view.columns["KL (k1)"] == (0.0,) * 4 and view.columns["ratio"] == (1.0,) * 4


def test_a_view_has_the_columns_of_the_models_it_was_given(models) -> None:
    view = token_view(TOKENIZER, "3 4", "5 6", policy=models["policy"], finished=False)
    assert list(view.columns) == ["log π"] and view.tokens == ("5", "6") and view.score is None
    with pytest.raises(ValueError, match="no tokens"):
        token_view(TOKENIZER, "3", [], policy=models["policy"])


def test_an_answer_that_was_cut_off_pays_in_the_view_what_it_paid_in_ppo(models) -> None:
    how = {**models, "kl_coef": 0.1, "gae_lambda": 1.0, "attribute": False}
    for ids, paid in (([6, 7, 8], 1.0), ([6, 7, END], 0.0)):
        free, view = (token_view(TOKENIZER, "3 4 5", ids, **how, missing_end_penalty=p) for p in (0.0, 1.0))
        lost = [a - b for a, b in zip(free.columns["reward"], view.columns["reward"], strict=True)]
        assert lost == pytest.approx([0, 0, paid], abs=1e-5) and view.score == free.score
        lost = [a - b for a, b in zip(free.columns["advantage"], view.columns["advantage"], strict=True)]
        assert lost == pytest.approx([paid] * 3, abs=1e-5)


def test_occlusion_is_the_score_minus_the_score_without_the_token(models) -> None:
    prompt, response = toy_rows(2, 4, 6)
    values = occlusion(models["reward"], prompt, response)
    whole = score(models["reward"], [prompt], [response])[0].item()
    without = score(models["reward"], [[*prompt[:1], *prompt[2:]]], [response])[0].item()
    assert len(values) == len(prompt) + len(response)
    assert values[1] == pytest.approx(whole - without, abs=1e-5)
    assert occlusion(models["reward"], [], [3]) == [0.0]


def test_gradient_x_input_is_the_derivative_of_shrinking_an_embedding(models) -> None:
    model, ids = models["reward"], toy_rows(1, 7, 7)[0]
    values = gradient_x_input(model, ids[:3], ids[3:])
    table = model.get_input_embeddings()
    embedded = table(torch.tensor([ids])).detach().double()
    twin = model.double()
    try:
        for t in (0, 3, 6):
            nudged = []
            for factor in (1 + 1e-2, 1 - 1e-2):
                moved = embedded.clone()
                moved[0, t] *= factor
                with torch.no_grad():
                    nudged.append(twin(inputs_embeds=moved).logits[0, -1, 0].item())
            assert values[t] == pytest.approx((nudged[0] - nudged[1]) / 2e-2, rel=2e-2, abs=1e-4)
    finally:
        model.float()


def test_attribution_leaves_no_gradient_behind(models) -> None:
    gradient_x_input(models["reward"], [3, 4], [5])
    assert all(p.grad is None for p in models["reward"].parameters())


def test_a_text_scorer_sees_the_end_token_and_the_bias(models) -> None:
    scorer = text_scorer(models["reward"], TOKENIZER)
    ended, cut = scorer(["3 4", "3 4"], ["5 6", "5 6"], [True, False])
    assert ended == pytest.approx(score(models["reward"], [[3, 4]], [[5, 6, END]])[0].item(), abs=1e-5)
    assert cut == pytest.approx(score(models["reward"], [[3, 4]], [[5, 6]])[0].item(), abs=1e-5)
    assert scorer([], [], []) == []
    with torch.no_grad():
        scalar_head(models["reward"]).bias.add_(1.0)
    assert scorer(["3 4"], ["5 6"], [True])[0] == pytest.approx(ended + 1, abs=1e-5)
    with torch.no_grad():
        scalar_head(models["reward"]).bias.sub_(1.0)
