/**
 * What surrounds the cards of the ranking board: header, prompt, parts, foot. Functions from state to
 * elements; `board.act` is the one door for what a person does.
 */
import { fillText, h } from "./dom.mjs";
import { comingNext, duration, formula } from "./ranking.mjs";

const PART_NAMES = { rate: "Rate", rank: "Rank" };
const QUICK_REASONS = {
  skip: ["not sure", "too long", "not my field"],
  cannot_judge: ["needs an expert", "prompt is unclear", "texts are cut off", "language I do not read"],
};

/** What a card that comes up again says of itself. */
const DECIDED = {
  ranked: "ranked before: a submit replaces it",
  skip: "skipped before",
  cannot_judge: "said before: cannot be judged",
};

/** A button that takes its key, so that the focus survives a redraw. */
export function button(label, key, onclick, more = {}) {
  return h("button", { type: "button", class: "rb-button", dataset: { key }, onclick, ...more }, label);
}

/** Where the labeler stands, the two parts as tabs, undo, redo, help. */
export function header(board) {
  const { done, total, pace, eta, skipped, not_judged } = board.view.progress;
  const aside = [skipped && `${skipped} skipped`, not_judged && `${not_judged} not judged`].filter(Boolean);
  const tempo = pace === null ? "" : `${duration(pace)} a card${done < total ? `, about ${duration(eta)} left` : ""}`;
  const facts = [comingNext(board.view.coming), ...aside, tempo].filter(Boolean).join(" · ");
  const again = board.card.decided || (done === total && board.letters.length);
  const where = again
    ? `Looking again, ${done} of ${total} done`
    : done < total
      ? `Card ${done + 1} of ${total}`
      : `All ${total} done`;
  const name = `Progress: ${done} of ${total} cards done`;
  return h(
    "div",
    { class: "rb-head" },
    h(
      "div",
      { class: "rb-progress" },
      h("div", { class: "rb-progress-line" }, h("b", {}, where), h("span", { class: "rb-small" }, facts)),
      h(
        "div",
        {
          class: "rb-bar",
          role: "progressbar",
          "aria-label": name,
          "aria-valuemin": 0,
          "aria-valuemax": total,
          "aria-valuenow": done,
        },
        barFill(done, total),
      ),
    ),
    h(
      "div",
      { class: "rb-tools" },
      h("span", { class: "rb-saved", "aria-hidden": "true", title: "Every move is on the disk before the next" }, ""),
      h("span", { class: "rb-small rb-labeler", title: "Labeler" }, board.view.labeler),
      button("Undo", "undo", () => board.act({ do: "undo" }), {
        disabled: !board.view.can_undo,
        title: "Undo, also a submit (u)",
      }),
      button("Redo", "redo", () => board.act({ do: "redo" }), {
        disabled: !board.view.can_redo,
        title: "Redo (Shift+u)",
      }),
      button("Keys", "help", () => board.act({ do: "help" }), {
        "aria-expanded": String(board.panel === "help"),
        title: "All keys (?)",
      }),
    ),
  );
}

function barFill(done, total) {
  const fill = h("div", { class: "rb-bar-fill" });
  fill.style.width = `${total ? (100 * done) / total : 0}%`;
  return fill;
}

/** The prompt, verbatim. */
export function promptPane(board) {
  const text = fillText(
    h("div", { class: "rb-text rb-prompt-text", id: board.id("prompt"), dir: "auto", dataset: { scroll: "prompt" } }),
    board.card.prompt,
  );
  const marks = [h("span", { class: "rb-tag" }, board.card.use_case)];
  const before = DECIDED[board.card.decided];
  if (before) marks.push(h("span", { class: "rb-tag rb-tag-strong" }, before));
  return h("div", { class: "rb-prompt" }, h("h3", { class: "rb-title" }, "Prompt", marks), text);
}

/** The two parts of the task, where both are on. */
export function partTabs(board) {
  if (board.view.modes.length < 2) return null;
  const counts = {
    rate: board.likert.filter((v) => v !== null).length,
    rank: board.slots.filter((v) => v !== null).length,
  };
  const tabs = board.view.modes.map((part, i) =>
    h(
      "button",
      {
        type: "button",
        class: "rb-tab",
        dataset: { key: `part:${part}` },
        "aria-pressed": String(board.part === part),
        onclick: () => board.act({ do: "part", value: part }),
      },
      h("span", { class: "rb-tab-number", "aria-hidden": "true" }, String(i + 1)),
      PART_NAMES[part],
      h("span", { class: "rb-small" }, `${counts[part]}/${board.letters.length}`),
    ),
  );
  return h("div", { class: "rb-tabs", role: "group", "aria-label": "Parts of the task" }, tabs);
}

/** Warnings, the note, what will be stored, and the buttons that end a card. */
export function foot(board) {
  const { ranked, unranked } = formula(board.slots, board.letters);
  const last = board.part === board.view.modes.at(-1);
  const state =
    board.part === "rank"
      ? [
          h("b", { class: "rb-formula" }, ranked || "nothing ranked yet"),
          unranked && ranked ? h("span", { class: "rb-small" }, `unranked: ${unranked}`) : null,
        ]
      : null;
  return h(
    "div",
    { class: "rb-foot" },
    warnings(board.view.warnings, "now"),
    h(
      "div",
      { class: "rb-foot-line" },
      h("input", {
        class: "rb-note",
        type: "text",
        maxlength: 2000,
        placeholder: "Note on this card (optional)",
        "aria-label": "Note on this card",
        value: board.comment,
        readonly: board.locked,
        dataset: { key: "note" },
        oninput: (e) => board.note(e.target.value),
        onchange: () => board.sendNote(),
        onblur: () => board.sendNote(),
      }),
      h("span", { class: "rb-state" }, state),
      button("Cannot judge", "cannot", () => board.act({ do: "cannot" }), {
        title: "Cannot be judged, with a reason (n)",
      }),
      board.card.decided
        ? button("Leave as it was", "skip", () => board.act({ do: "skip" }), { title: "Go on; nothing changes (s)" })
        : button("Skip", "skip", () => board.act({ do: "skip" }), { title: "Put aside (s)" }),
      button(last ? "Submit" : "Continue to ranking", "submit", () => board.act({ do: "submit" }), {
        class: "rb-button rb-primary",
        title: "Enter",
      }),
    ),
  );
}

/** Contradictions: the first few as they are, the rest behind one line. */
export function warnings(sentences, key, first = 3) {
  if (!sentences.length) return null;
  const items = (some) =>
    h(
      "ul",
      {},
      some.map((sentence) => h("li", {}, sentence)),
    );
  const rest = sentences.slice(first);
  const more = `${rest.length}${first ? " more" : ""} contradiction${rest.length > 1 ? "s" : ""} between ratings, flags and ranks`;
  return h(
    "div",
    { class: "rb-warnings", role: "note", "aria-label": "Contradictions" },
    first ? items(sentences.slice(0, first)) : null,
    rest.length ? h("details", {}, h("summary", { dataset: { key: `warnings:${key}` } }, more), items(rest)) : null,
  );
}

/** The line that asks for a reason. */
export function reasonPanel(board) {
  const kind = board.panel;
  const must = kind === "cannot_judge";
  const withdraws = must && board.card.decided === "ranked";
  const input = h("input", {
    type: "text",
    class: "rb-note",
    maxlength: 500,
    dataset: { key: "reason" },
    "aria-label": "Reason",
    required: must,
    placeholder: must ? "Why can nobody judge this here?" : "Why? (optional)",
  });
  const send = (reason) => board.act({ do: "aside", value: reason });
  input.addEventListener(
    "keydown",
    (e) => e.key === "Enter" && (e.preventDefault(), e.stopPropagation(), e.repeat || send(input.value)),
  );
  return h(
    "div",
    { class: "rb-panel", role: "group", "aria-label": !must ? "Skip" : withdraws ? "Cannot judge: the ranking is withdrawn" : "Cannot judge" },
    h("b", {}, must ? "Cannot judge this card" : "Skip this card"),
    withdraws ? h("span", { class: "rb-small" }, "Its ranking is withdrawn. To keep it: Back, then Leave as it was.") : null,
    h(
      "div",
      { class: "rb-foot-line" },
      input,
      button(withdraws ? "Store, withdraw the ranking" : must ? "Store" : "Skip", "reason-send", () => send(input.value), { class: "rb-button rb-primary" }),
      button("Back (Esc)", "reason-back", () => board.act({ do: "close" })),
    ),
    h(
      "div",
      { class: "rb-quick" },
      QUICK_REASONS[kind].map((reason) => button(reason, `quick:${reason}`, () => send(reason), { class: "rb-chip" })),
    ),
  );
}
