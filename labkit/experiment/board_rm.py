"""The run's reward model at the ranking board: it picks the next card by its uncertainty, and tells its scores after a submit.

Before a reward model is there (a first visit) the board works without. On a later one, "label, train, label again", the
cards come first of whose order it is least sure, since they can teach it most; a share of random ones keeps the sample honest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.experiment.live import scores_of
from labkit.experiment.needs import is_there
from labkit.labels.beside_rm import beside_labeler, contradiction, uncertainty
from labkit.labels.tasks import task_id
from labkit.models import load_reward_model
from labkit.types import Completion, Prompt, Ranking

if TYPE_CHECKING:
    from labkit.experiment.lab import Experiment
    from labkit.labels.session import LabelSession

__all__ = ["BoardRM", "rm_for_board"]

Scores = Callable[[Prompt, Sequence[Completion]], dict[str, float]]


@dataclass(frozen=True)
class BoardRM:
    """What the run's reward model says of cards. Without one all of it is None, as LabelSession and RankingBoard take it.

    uncertainty: for LabelSession(score=...). reveal, remark: for RankingBoard, which asks after the submit only.
    """

    sentence: str
    uncertainty: Callable[[Prompt, Sequence[Completion]], float] | None = None
    reveal: Callable[[Ranking], dict[str, str]] | None = None
    remark: Callable[[Ranking], str] | None = None
    scores: Scores | None = None
    trained: float = 0.0  # when its training began; what was ranked earlier it may have learnt

    def contradiction(self, desk: LabelSession) -> str:
        """How often, and by how much, it contradicts the labeler; apart for cards that it cannot have learnt from."""
        if self.scores is None:
            return "Reward model beside labeler: nothing to say yet, no reward model is trained."
        first: dict[str, float] = {}
        for row in desk.state.done:
            if row["event"] == "submit":
                first.setdefault(row["task"], row["time"])
        new = [r for r in desk.rankings if first.get(task_id(r.prompt, r.completions), 0.0) > self.trained]
        parts = [("ranked since it was trained", new)]
        if old := [r for r in desk.rankings if r not in new]:
            parts.append(("ranked before, from which it may have learnt", old))
        told = [
            f"{label}: {contradiction(own, lambda r: self.scores(r.prompt, r.completions), seed=desk.seed).sentence}"
            for label, own in parts
        ]
        return "Reward model beside labeler, " + " ".join(part if part.endswith(".") else f"{part}." for part in told)


def rm_for_board(lab: Experiment) -> BoardRM:
    """The run's finished reward model as the board takes it; where there is none, a BoardRM that says nothing."""
    stage = lab.run.stage("reward")
    if not is_there(lab.run, "reward"):
        return BoardRM(f"{stage.path} holds no finished reward model yet: the cards come in their order.")
    judge, known = load_reward_model(stage.model, tokenizer=lab.tokenizer), {}

    def scores(prompt: Prompt, completions: Sequence[Completion]) -> dict[str, float]:
        card = task_id(prompt, completions)  # a session asks for every open card at each step
        if card not in known:
            found = scores_of(lab, judge, prompt, completions)
            known[card] = dict(zip([c.id for c in completions], found, strict=True))
        return known[card]

    def of(ranking: Ranking) -> dict[str, float]:
        return scores(ranking.prompt, ranking.completions)

    return BoardRM(
        f"The next card is the one of whose order {stage.path} is least sure, or one at random; its scores show after a submit.",
        uncertainty=lambda prompt, completions: uncertainty(list(scores(prompt, completions).values())),
        reveal=lambda ranking: {i: f"RM {value:+.2f}" for i, value in of(ranking).items()},
        remark=lambda ranking: beside_labeler(ranking, of(ranking)),
        scores=scores,
        trained=float(stage.manifest["started"]),
    )
