"""Stage three: PPO against a reward model with a per-token KL penalty, plus pretraining gradients (PPO-ptx)."""

from labkit.ppo.loop import loop
from labkit.ppo.rewards import Reward, from_model, from_texts, weighted
from labkit.ppo.rollout import Rollout
from labkit.ppo.settings import PPOSettings
from labkit.ppo.state import State

__all__ = ["PPOSettings", "Reward", "Rollout", "State", "from_model", "from_texts", "loop", "weighted"]
