"""The static twin of the reward inspector: figures, and tables that a reader of an executed notebook can learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.figures import bundle, token_strip
from labkit.figures.records import number
from widgets.twins import Table, tables_bundle

if TYPE_CHECKING:
    from widgets.inspector import RewardInspector

__all__ = ["bundles", "tables"]

_ENDS = 4  # best and worst responses in the table
_PROBED = 64  # responses that the table of probes is made on
_STRIP = ("KL (k1)", "value", "advantage", "change of reward", "occlusion")


def bundles(board: RewardInspector) -> list[dict[str, Any]]:
    """Figures first, the token view of the best response, then the tables."""
    made = [bundle(fig) for fig in board.figures().values()]
    row = _best(board._all)
    if board.explain is not None and row is not None:
        view = board._view(row)
        columns = {k: v for k, v in view["columns"].items() if k in _STRIP} or view["columns"]
        made.append(bundle(token_strip(view["tokens"], columns, title="The best-scored response, token by token")))
    return [*made, tables(board)]


def tables(board: RewardInspector) -> dict[str, str]:
    """Best and worst responses, probes, and worst disagreements, as HTML and text."""
    scored = sorted((r for r in board._all if r.get("score") is not None), key=lambda r: -r["score"])
    shown = scored if len(scored) <= 2 * _ENDS else [*scored[:_ENDS], *scored[-_ENDS:]]
    shown = shown or board._all[: 2 * _ENDS]
    lines = [f"{board.spec['title']} (static): {len(board._all)} responses, of which the best and the worst are shown."]
    seen = board._views.get((_best(board._all) or {}).get("row"), {})
    lines += [f"Token by token: {seen['note']}"] if seen.get("note") else []
    found: list[Table] = [
        (
            "Responses by score",
            *_table(shown, ("source", "step", "prompt", "response", "score", "gold", "kl", "length")),
        )
    ]
    if board.scorer is not None and board._all:
        probed = board.probe(scored or board._all, most=_PROBED)
        rows = [
            [f["name"], number(f["change"]), f"{100 * f['gained']:.0f} %", f["verdict"], f["meaning"]]
            for f in probed["findings"]
        ]
        header = ["probe", "mean change of score", "responses that gain", "the edit", "if it pays"]
        found.append((f"Probes for hacking on {probed['which']}", header, rows))
    worst = board.disagreements(6)
    if worst:
        found.append(("Where labelers and the RM disagree most", list(worst[0]), [list(w.values()) for w in worst]))
    return tables_bundle(lines, found)


def _best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    scored = [r for r in rows if r.get("score") is not None and r["response"].strip()]
    return max(scored, key=lambda r: r["score"], default=None)


def _table(rows: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> tuple[list[str], list[list[Any]]]:
    keys = [k for k in wanted if any(r.get(k) is not None for r in rows)]
    return keys, [[_cell(r.get(k)) for k in keys] for r in rows]


def _cell(value: Any) -> str:
    return "" if value is None else number(value) if isinstance(value, float) else str(value).strip()[:600]
