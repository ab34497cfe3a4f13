/**
 * What the ranking board tells: the echo of the last submit, the history, the actions' progress, the end, the keys.
 */
import { h } from "./dom.mjs";
import { button, warnings } from "./ranking_frame.mjs";

/** What the last submit stored, with the models that were hidden until then. */
export function echo(board) {
  const stored = board.view.echo;
  if (!stored) return null;
  const rows = stored.rows.map((row) =>
    h(
      "li",
      {},
      h("span", { class: "rb-letter rb-letter-small" }, row.label),
      h("span", {}, row.rank === null ? "unranked" : `rank ${row.rank}`),
      row.model ? h("code", {}, row.model) : null,
      row.extra ? h("span", { class: "rb-small" }, row.extra) : null,
    ),
  );
  return h(
    "div",
    { class: "rb-echo" },
    h(
      "div",
      { class: "rb-echo-line" },
      h("span", { class: "rb-tick", "aria-hidden": "true" }, "✓"),
      h("span", {}, stored.text, rows.length ? h("span", { class: "rb-small" }, " Undo (u) takes it back.") : null),
    ),
    rows.length ? h("ul", { class: "rb-reveal", "aria-label": "What was hidden on the last card" }, rows) : null,
    stored.remark ? h("div", { class: "rb-remark" }, stored.remark) : null,
    warnings(stored.warnings, "stored", 0),
  );
}

/** Why the card that is up was not chosen as it should have been. */
export function notice(board) {
  const text = board.view.notice;
  return text ? h("div", { class: "rb-info rb-notice", role: "note" }, text) : null;
}

/** Decided cards, each one click from being looked at again. */
export function history(board) {
  const rows = board.view.history;
  if (!rows.length) return null;
  const names = { ranked: "", skip: "Skipped: ", cannot_judge: "Cannot judge: " };
  const items = rows.map((row) =>
    h(
      "li",
      {},
      h("span", {}, `${names[row.what] ?? ""}${row.text || "no reason given"}`),
      button("Open again", `show:${row.key}`, () => board.act({ do: "show", value: row.key }), {
        class: "rb-link",
        "aria-label": `Open prompt ${row.prompt} again`,
      }),
    ),
  );
  const summary = h(
    "summary",
    { dataset: { key: "history" } },
    `Decided cards (${rows.length}${rows.length < board.view.progress.done ? " newest" : ""})`,
  );
  return h(
    "details",
    { class: "rb-history", open: board.historyOpen, ontoggle: (e) => (board.historyOpen = e.target.open) },
    summary,
    h("ol", {}, items),
  );
}

/** The buttons that do something with the labels, and what their threads report. */
export function jobs(board) {
  if (!board.jobs.length) return null;
  const busy = board.jobs.some((job) => job.running);
  const blocks = board.jobs.map((job) =>
    h(
      "div",
      { class: "rb-job" },
      button(
        job.running ? `${job.name} …` : job.name,
        `job:${job.name}`,
        () => board.act({ do: "action", value: job.name }),
        { disabled: busy },
      ),
      job.lines.length
        ? h("pre", { class: "rb-log", dataset: { scroll: `job:${job.name}` } }, job.lines.slice(-40).join("\n"))
        : null,
    ),
  );
  return h("div", { class: "rb-jobs", role: "group", "aria-label": "Actions" }, blocks);
}

/** The end of a session. */
export function finished(board) {
  return h(
    "div",
    { class: "rb-finished" },
    h("h3", { class: "rb-title" }, "All cards are decided"),
    board.view.closing.map((line) => h("p", {}, line)),
    h(
      "p",
      { class: "rb-small" },
      "Undo reaches back past the last submit; any decided card can be opened again below.",
    ),
  );
}

/** All keys, in words. */
export function help(board) {
  const count = board.letters.length || 9;
  const row = (keys, text) =>
    h(
      "tr",
      {},
      h(
        "td",
        {},
        keys.map((key) => h("kbd", {}, key)),
      ),
      h("td", {}, text),
    );
  const flags = board.view.flags.map((flag) => row([flag.key], flag.full));
  const table = (title, rows) => h("table", {}, h("caption", {}, title), h("tbody", {}, rows));
  const rate = [
    row(["Tab", "← →"], "go to a card"),
    row(["1", "…", "7"], "overall quality"),
    row(["0"], "take the rating back"),
    ...flags,
  ];
  const rank = [
    row(["Tab", "← →"], "go to a card"),
    row(["1", "…", String(count)], "rank; the same digit again on another card is a tie"),
    row(["Shift+1", "…"], "squeeze in at that rank, the others move down"),
    row(["↑ ↓"], "one rank better or worse"),
    row(["Home", "End"], "best or worst rank"),
    row(["0", "Backspace"], "back to the unranked tray"),
    row(["o"], "start from the ratings"),
  ];
  const both = [
    row(["Enter"], "continue, then submit"),
    row(["u", "Shift+u"], "undo and redo, also past a submit"),
    row(["s"], "skip; on a card that was decided before: leave it as it was"),
    row(["n"], "cannot judge; a ranking that the card has is withdrawn"),
    row(["r"], "switch between rating and ranking"),
    row(["Space"], "scroll a long text"),
    row(["?"], "these keys"),
    row(["Esc"], "close; again: back to the notebook"),
  ];
  const [first, ...rest] = board.view.modes.map((mode) =>
    mode === "rate" ? table("Rating, on a card", rate) : table("Ranking, on a card", rank),
  );
  return h(
    "div",
    { class: "rb-panel rb-help", role: "region", "aria-label": "Keys", tabindex: "0", dataset: { key: "help-panel" } },
    h("div", {}, first),
    h("div", {}, rest, table("Everywhere", both)),
  );
}
