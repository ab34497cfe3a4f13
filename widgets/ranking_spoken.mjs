/**
 * What the ranking board tells a screen reader beside a person's own moves: the next card, contradictions as they arise,
 * and what an action reports. Moves interrupt (`board.say`); these wait for their turn, in a log of their own.
 */
import { h } from "./dom.mjs";
import { comingNext, excerpt } from "./ranking.mjs";

const KEPT = 6; // entries that stay in the log
const AT_ONCE = 3; // contradictions read out together
const REST = 5000; // ms between two lines of a running action: a line per step would drown everything else
const LONGEST = 300; // characters of a prompt that are read out unasked

/** The log: only what is added to it is spoken. */
export function spokenLog() {
  return h("div", { class: "lk-spoken", role: "log", "aria-label": "What the board reports" });
}

/** The sentence after a submit, a skip or an undo: what became of the card, and which one is up. */
export function nextCard(board) {
  const { echo, message } = board.view;
  const next = board.letters.length
    ? `Next card: ${board.letters.length} responses. Prompt: ${excerpt(board.card.prompt, LONGEST)}`
    : "All cards are decided.";
  return [echo?.text, echo?.remark, contradictions(echo?.warnings ?? []), message, board.view.notice, next].filter(Boolean).join(" ");
}

function contradictions(sentences) {
  if (!sentences.length) return "";
  const count = sentences.length === 1 ? "1 contradiction" : `${sentences.length} contradictions`;
  return `${count}: ${sentences.slice(0, AT_ONCE).join(" ")}`;
}

/** Contradictions that the last move has made; what held before is not said again. */
export function mentionWarnings(board, fresh) {
  const known = fresh ? [] : board.knownWarnings;
  const made = board.view.warnings.filter((sentence) => !known.includes(sentence));
  board.knownWarnings = board.view.warnings;
  if (made.length) mention(board, contradictions(made));
}

/** Cards that were put into the queue; that it grows shorter as they come is not said. */
export function mentionComing(board) {
  const { coming } = board.view;
  if (coming > board.coming) mention(board, `${comingNext(coming)}, after this one.`);
  board.coming = coming;
}

/** The newest line of each action: its last one always, those before it with rests between them. */
export function mentionProgress(board, first) {
  const now = Date.now();
  for (const { name, running, lines } of board.jobs) {
    const told = board.told.get(name) ?? { line: "", time: 0 };
    const line = lines.at(-1) ?? "";
    if (line === told.line || (running && now - told.time < REST)) continue;
    board.told.set(name, { line, time: now });
    if (line && !first) mention(board, `${name}: ${line}`);
  }
}

function mention(board, text) {
  board.log.append(h("div", {}, text));
  while (board.log.children.length > KEPT) board.log.firstElementChild.remove();
}
