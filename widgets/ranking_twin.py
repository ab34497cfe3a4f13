"""The static twin of the ranking board: what a reader of an executed notebook sees in its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from labkit import figures
from labkit.figures.text import answer, visible
from labkit.labels.remarks import put_aside_sentence, remarks
from labkit.labels.session import LabelSession, Task
from labkit.types import Rating
from widgets.display import static_bundle, table_html, table_text

__all__ = ["bundle", "closing", "figure"]

MAX_TASKS = 5  # cards shown in full; the log has them all


def closing(session: LabelSession) -> list[str]:
    """Sentences for the end of a session: progress, position bias, self-consistency, what was put aside and why."""
    sentences = [session.progress().sentence, session.position_bias().sentence]
    if session.state.repeat_of:
        sentences.append(session.self_consistency().sentence)
    aside = put_aside_sentence(remarks(session.state))
    return [*sentences, aside] if aside else sentences


def figure(session: LabelSession, *, blind: bool = False) -> dict[str, Any]:
    """Mime bundle of a figure: who wins, once something was ranked; before that, or blind, how long the answers are."""
    if not blind and any(ranking.pairs() for ranking in session.rankings):
        return figures.bundle(figures.pairs_won(session.rankings, title=f"Who wins, says {session.labeler}"))
    return figures.bundle(figures.card_lengths([[c.text for c in task.completions] for task in session.tasks]))


def bundle(session: LabelSession, modes: Sequence[str], *, blind: bool = False) -> dict[str, str]:
    """Mime bundle of the twin: progress, and the first cards with texts and what was stored, as HTML and text.

    blind: the models stay hidden after the ranking as well.
    """
    title = f"Ranking board of labeler {session.labeler} (static: nobody can rank here)"
    lines = [session.progress().sentence]
    if session.rankings:
        lines = closing(session)
    lines += [session.score_error] if session.score_error else []
    shown = [task for task in session.tasks if task.id in session.state.submitted][:MAX_TASKS]
    shown = shown or list(session.tasks[:1])
    header = _header(modes)
    tables = [(visible(task.prompt.text.strip()), list(_rows(session, task, modes, blind))) for task in shown]
    if len(shown) < len(session.tasks):
        lines.append(f"{'One of them is' if len(shown) == 1 else f'{len(shown)} of them are'} shown below.")
    body = f"<p><b>{escape(title)}</b></p>" + "".join(f"<p>{escape(line)}</p>" for line in lines)
    body += "".join(table_html(header, rows, f"Prompt: {prompt}") for prompt, rows in tables)
    text = [title, *lines]
    for prompt, rows in tables:
        text += ["", f"Prompt: {prompt}", table_text(header, rows)]
    return static_bundle("\n".join(text), body)


def _header(modes: Sequence[str]) -> list[str]:
    parts = {"rank": ["rank"], "rate": ["quality", "flags"]}
    return [
        "response",
        *[column for mode in ("rank", "rate") if mode in modes for column in parts[mode]],
        "text",
        "model",
    ]


def _rows(session: LabelSession, task: Task, modes: Sequence[str], blind: bool) -> Iterator[list[Any]]:
    """One row per response, in rank order once ranked; models stay hidden until then, or for good."""
    ranking = session.state.submitted.get(task.id)
    ranks = ranking.ranks if ranking else {}
    models = {c.id: c.model or "unknown" for c in task.completions}
    for card in sorted(task.cards, key=lambda c: (ranks.get(c.id, 99), c.position)):
        rating = ranking.ratings.get(card.id, Rating()) if ranking else Rating()
        row: list[Any] = [card.label]
        if "rank" in modes:
            row.append(ranks.get(card.id, "-"))
        if "rate" in modes:
            row += [rating.likert or "-", ", ".join(rating.flags) or "-"]
        yield [*row, answer(card.text), _model(models[card.id], ranking is not None, blind)]


def _model(name: str, ranked: bool, blind: bool) -> str:
    if blind:
        return "hidden"
    return visible(name) if ranked else "hidden until ranked"
