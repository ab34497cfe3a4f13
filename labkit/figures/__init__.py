"""Static figures of runs, reward models and evaluations. plotly for the page, matplotlib for the PNG twin; no Jupyter.

    from labkit.figures import bundle, training_curves
    fig = training_curves(run.stage("ppo"))
    bundle(fig)        # plotly JSON + PNG + text, shows in JupyterLab, on GitHub and in HTML

Each name is loaded when first asked for.

training.py     curves of runs and branches, and where time goes; panels.py: what is drawn of each stage
reward.py       a reward model; ranking.py, prompts.py: labels and prompts; evaluation.py: judged models; tokens.py: one response
records.py      what is drawn, as one shape; theme.py: how it looks; text.py: hidden characters made visible
mime.py         a figure that shows everywhere; png/: its PNG twin
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "COLOURS": "theme",
    "PANELS": "panels",
    "Panel": "panels",
    "Record": "records",
    "accuracy_by": "reward",
    "alignment_tax": "evaluation",
    "bundle": "mime",
    "by_ranking": "reward",
    "calibration": "reward",
    "card_lengths": "ranking",
    "flag_bars": "evaluation",
    "gao_fit": "evaluation",
    "likert_bars": "evaluation",
    "longer_wins": "ranking",
    "pair_rows": "reward",
    "pairs_won": "ranking",
    "prompts_kept": "prompts",
    "proxy_and_gold": "evaluation",
    "reward_against_length": "reward",
    "reward_histogram": "reward",
    "time_profile": "training",
    "token_strip": "tokens",
    "training_curves": "training",
    "use_case_shares": "prompts",
    "visible": "text",
    "win_rates": "evaluation",
}

__all__ = [
    "COLOURS",
    "PANELS",
    "Panel",
    "Record",
    "accuracy_by",
    "alignment_tax",
    "bundle",
    "by_ranking",
    "calibration",
    "card_lengths",
    "flag_bars",
    "gao_fit",
    "likert_bars",
    "longer_wins",
    "pair_rows",
    "pairs_won",
    "prompts_kept",
    "proxy_and_gold",
    "reward_against_length",
    "reward_histogram",
    "time_profile",
    "token_strip",
    "training_curves",
    "use_case_shares",
    "visible",
    "win_rates",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"labkit.figures has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"labkit.figures.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
