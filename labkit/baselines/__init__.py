"""Other methods on the same prompts and rankings: DPO, KTO, RLOO and GRPO from TRL, for comparison with PPO-ptx.

    train(lab, "dpo")                                 # runs/<name>/dpo/model, loads with plain transformers
    compare(lab, ["dpo", "kto"], best_of=16)          # trains what is missing; the same sheet for all

All start from the PPO init model, which is also their reference, so that what differs is the method. DPO and KTO learn
from the rankings that the reward model learnt from; RLOO and GRPO sample on PPO's prompts and are paid by that reward
model. Importing this package loads neither torch nor trl.
"""

from labkit.baselines.compare import EVALUATION, compare
from labkit.baselines.settings import METHODS, OfflineSettings, OnlineSettings
from labkit.baselines.train import train

__all__ = ["EVALUATION", "METHODS", "OfflineSettings", "OnlineSettings", "compare", "train"]
