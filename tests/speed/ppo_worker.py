"""Some steps of PPO-ptx on the toy, in as many processes as the launcher starts; the first writes what came out.

Run by test_distributed.py under `accelerate launch`, which says in the environment whether the models are sharded.
"""

import json
import os
import sys
from itertools import islice
from pathlib import Path

os.environ["LABKIT_DEVICE"] = "cpu"
import torch

from labkit.knobs import PPOKnobs, constant
from labkit.ppo import PPOSettings, loop
from tests.toy import even_share, toy_prompts, toy_state

SETTINGS = PPOSettings(steps=3, batch=16, minibatch=8, max_new_tokens=8, warmup=0, ptx_row=32, micro_tokens=48, exact_kl=True)
KNOBS = PPOKnobs(policy_lr=1e-3, value_lr=1e-3, ptx_coef=0.3)


def main(model: Path, out: Path) -> None:
    torch.set_num_threads(1)
    state = toy_state(model, SETTINGS)
    mine = KNOBS if state.accelerator.is_main_process else KNOBS.turned(policy_lr=1e-2)  # the first one's word counts
    rows = torch.randint(3, 40, (64, 32), generator=torch.Generator().manual_seed(0))
    steps = list(islice(loop(state, toy_prompts(50), even_share, constant(mine), SETTINGS, pretraining=rows), 2))
    state.save(out / "snapshot")
    resumed = toy_state(model, SETTINGS).load(out / "snapshot")
    for at in (state, resumed):
        steps += loop(at, toy_prompts(50), even_share, constant(mine), SETTINGS, pretraining=rows)
    average = {n: p.tolist() for n, p in state.averaged_policy().named_parameters() if "ln_f" in n}
    if state.accelerator.is_main_process:
        facts = {"processes": state.accelerator.num_processes, "kind": type(state.policy).__name__, "average": average}
        (out / "out.json").write_text(json.dumps(facts | {"metrics": [dict(s.metrics) for s in steps]}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
