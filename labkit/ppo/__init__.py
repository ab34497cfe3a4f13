"""Stage three: PPO against a reward model with a per-token KL penalty, plus pretraining gradients (PPO-ptx).

loop.py         the algorithm, top to bottom; its arithmetic is `labkit.rl`
state.py        all that it changes; settings.py: all that it is told once
rollout.py      a batch of episodes: sampled, scored, turned into advantages; rewards.py: what scores them
minibatches.py  the batch in minibatches; pretraining.py: the rows that go with each
update.py       gradients of a minibatch; passes.py: one backward pass; graphed.py: one that CUDA replays
measure.py      the numbers of a Step; checks.py, padding.py: promises that are checked while it runs
sharding.py     weights spread over processes

    tokenizer = load_tokenizer(path)                                                              # labkit.models
    value = load_reward_model(rm, tokenizer=tokenizer)    # trained as the value model: a copy of its own, not the reward's
    reward = from_model(load_reward_model(rm, tokenizer=tokenizer))                               # or from_texts, weighted
    state = State(load_policy(path, tokenizer=tokenizer), value, tokenizer, settings)
    for step in loop(state, prompts, reward, Dial(PPOKnobs(kl_coef=0.05)), settings): ...         # labkit.knobs
    state.save("snapshot"); State(...).load("snapshot")   # goes on number for number
    save_model(state.averaged_policy(), tokenizer, "mine")

The rows for `loop(pretraining=...)` from texts of one's own, for γ (ptx_coef) above 0:

    torch.tensor(labkit.sft.pretraining_pieces(tokenizer, texts, settings.ptx_row, count))
"""

from labkit.ppo.loop import loop
from labkit.ppo.rewards import Reward, from_model, from_texts, weighted
from labkit.ppo.rollout import Rollout
from labkit.ppo.settings import PPOSettings
from labkit.ppo.state import State

__all__ = ["PPOSettings", "Reward", "Rollout", "State", "from_model", "from_texts", "loop", "weighted"]
