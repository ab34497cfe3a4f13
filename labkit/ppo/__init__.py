"""Stage three: PPO against a reward model with a per-token KL penalty, plus pretraining gradients (PPO-ptx).

loop.py         the algorithm, top to bottom; its arithmetic is `labkit.rl`
state.py        all that it changes; settings.py: all that it is told once
rollout.py      a batch of episodes: sampled, scored, turned into advantages; rewards.py: what scores them
minibatches.py  the batch in minibatches; pretraining.py: the rows that go with each
update.py       gradients of a minibatch; passes.py: one backward pass; graphed.py: one that CUDA replays
measure.py      the numbers of a Step; checks.py, padding.py: promises that are checked while it runs
sharding.py     weights spread over processes
"""

from labkit.ppo.loop import loop
from labkit.ppo.rewards import Reward, from_model, from_texts, weighted
from labkit.ppo.rollout import Rollout
from labkit.ppo.settings import PPOSettings
from labkit.ppo.state import State

__all__ = ["PPOSettings", "Reward", "Rollout", "State", "from_model", "from_texts", "loop", "weighted"]
