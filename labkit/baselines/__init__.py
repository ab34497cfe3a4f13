"""Other methods on the same prompts and rankings: DPO, KTO, RLOO and GRPO from TRL, for comparison with PPO-ptx.

    train(lab, "dpo")                                 # runs/<name>/dpo/model, loads with plain transformers
    evaluate(lab, ["sft", "ppo_ptx", "dpo"])          # the same sheet for all

All start from the PPO init model, which is also their reference, so that what differs is the method. DPO and KTO learn
from the rankings that the reward model learnt from; RLOO and GRPO sample on PPO's prompts and are paid by that reward
model. Importing this package loads neither torch nor trl.
"""

from labkit.baselines.settings import METHODS, OfflineSettings, OnlineSettings
from labkit.baselines.train import train

__all__ = ["METHODS", "OfflineSettings", "OnlineSettings", "train"]
