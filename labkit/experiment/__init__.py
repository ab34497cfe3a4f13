"""One run of the whole method: prompts, demonstrations, rankings and the jobs of each stage, wired from a preset.

    lab = Experiment(Run("mine"), scale="tour", seed=0)      # labkit.runs; model=, data= for one's own
    lab.prepare()
    lab.sft_job().start().result(block=True)                 # block: wait for it, also in a notebook
    lab.sft_job(init=True).start().result(block=True)        # the PPO init
    lab.rank()                                               # the labelers', or the comparisons of one's own data
    lab.reward_job().start().result(block=True)
    lab.ppo_job(kl_coef=0.1).start().result(block=True)      # PPO-ptx; ptx=False: PPO
    evaluate(lab, ["sft", "ppo_ptx"]).table()
    lab.ensure("ppo_ptx")                                    # or all that is missing of it, at once

The notebooks, the demo and the findings all go through here, so that a stage means the same thing in each of them.

lab.py          the Experiment: data, settings and the job of each stage; amounts.py: how much of everything
sources.py      the world's data or a folder of your own; own.py: rankings from outside; checked.py: refused early
needs.py        what a stage needs, what is missing or stale; origins.py: content hashes of what a run begins with
shown.py        completions to rank; prompted.py: the few-shot base; vocabulary.py: one for policy and reward model
epochs.py       SFT's epochs kept to choose from; batches.py: all that each PPO step sampled, kept
evaluate.py     models judged; evaluation.py: the sheet; by_people.py: blind judgments; groups.py: folds by labeler
live.py         what the boards ask while a job trains; board_rm.py: the reward model at the ranking board
look.py         answers, rankings and accuracy of a run; inspected.py: for the inspector; beside.py: beside the paper
side_by_side.py several runs in one table
replay_stage.py one recorded stage again; replay_whole.py: a whole run; together.py: two jobs; launch.py: several GPUs
"""

from labkit.experiment.amounts import Amounts, amounts
from labkit.experiment.beside import beside_paper
from labkit.experiment.board_rm import BoardRM, rm_for_board
from labkit.experiment.by_people import blind_cards, people_path, with_people
from labkit.experiment.evaluate import evaluate
from labkit.experiment.evaluation import Evaluation, load_evaluation
from labkit.experiment.inspected import explain_samples, inspect_run, text_judge
from labkit.experiment.lab import Experiment
from labkit.experiment.live import (
    evaluate_now,
    retrain_on_labels,
    sample_now,
    simulated_labelers,
    tasks_by_hand,
)
from labkit.experiment.look import answers, ask, judge_rankings, ranking_rows, screened, worst_disagreements
from labkit.experiment.needs import ppo_stages
from labkit.experiment.prompted import hold_contest
from labkit.experiment.replay_stage import replay_job
from labkit.experiment.replay_whole import replay_run
from labkit.experiment.sources import FolderSource, Source, WorldSource
from labkit.experiment.together import start_together

__all__ = [
    "Amounts",
    "BoardRM",
    "Evaluation",
    "Experiment",
    "FolderSource",
    "Source",
    "WorldSource",
    "amounts",
    "answers",
    "ask",
    "beside_paper",
    "blind_cards",
    "evaluate",
    "evaluate_now",
    "explain_samples",
    "hold_contest",
    "inspect_run",
    "judge_rankings",
    "load_evaluation",
    "people_path",
    "ppo_stages",
    "ranking_rows",
    "replay_job",
    "replay_run",
    "retrain_on_labels",
    "rm_for_board",
    "sample_now",
    "screened",
    "simulated_labelers",
    "start_together",
    "tasks_by_hand",
    "text_judge",
    "with_people",
    "worst_disagreements",
]
