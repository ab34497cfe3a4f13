"""Win rates from pairwise judgments: rate, standard error, interval by prompt, Bradley-Terry scores and order.

    rate = win_rate(judgments, "ppo_ptx", "sft")      # WinRate(rate, se, low, high, n, prompts)
    report = winrate_report(judgments)                # every ordered pair, scores, order; .text(), .to_json()
    report = winrate_of_files(["judgments.jsonl"])

judgments.py      Judgment and reading it from JSONL
rates.py          win_rate with an interval clustered by prompt
bradley_terry.py  scores of many models from who beat whom
report.py         all of it together
"""

from labkit.evaluation.winrate.bradley_terry import Scores, bradley_terry
from labkit.evaluation.winrate.judgments import ALIKE, Judgment, judgments_of, read_judgments
from labkit.evaluation.winrate.rates import WinRate, win_rate
from labkit.evaluation.winrate.report import WinRates, winrate_of_files, winrate_report

__all__ = [
    "ALIKE",
    "Judgment",
    "Scores",
    "WinRate",
    "WinRates",
    "bradley_terry",
    "judgments_of",
    "read_judgments",
    "win_rate",
    "winrate_of_files",
    "winrate_report",
]
