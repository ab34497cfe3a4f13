/**
 * Pure logic of the reward inspector: filter, sort and export rows; colours of tokens; what a change of score says.
 */
import { inOrder } from "./columns.mjs";

/** Rows whose text contains every word of `search` and whose columns equal the chosen values ("" is any). */
export function filterRows(rows, { search = "", ...chosen }) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) => {
    for (const [key, value] of Object.entries(chosen)) if (value !== "" && String(row[key] ?? "") !== value) return false;
    const text = `${row.prompt ?? ""}\n${row.response ?? ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** Rows ordered by a column; numbers by size, texts by alphabet, what is missing last in both directions. */
export function sortRows(rows, key, down) {
  const missing = (v) => v === null || v === undefined || Number.isNaN(v);
  const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  return [...rows].sort((a, b) => {
    const [x, y] = [a[key], b[key]];
    if (missing(x) || missing(y)) return missing(x) - missing(y);
    return down ? order(y, x) : order(x, y);
  });
}

/** Values of a column that a menu can offer, in order of appearance. */
export function choices(rows, key) {
  return [...new Set(rows.map((row) => row[key]).filter((v) => v !== null && v !== undefined).map(String))];
}

/** What the menu of a column offers: of source and step all that Python knows, also of rows that are not on the page. */
export function offer(offered, rows, key) {
  return offered[key]?.map(String) ?? choices(rows, key);
}

/** The one source and step that the menus leave, or null: what a whole batch is of. A single source needs no menu. */
export function oneStep(rows, { source = "", step = "" }, offered = {}) {
  const only = (key) => {
    const found = offer(offered, rows, key);
    return found.length === 1 ? found[0] : "";
  };
  const found = { source: source || only("source"), step: Number(step || only("step") || NaN) };
  return found.source && Number.isInteger(found.step) ? found : null;
}

/** Rows with the whole batch of one step in place of that step's samples. */
export function withBatch(rows, batch) {
  if (!batch?.rows) return rows;
  return [...rows.filter((row) => row.source !== batch.source || row.step !== batch.step), ...batch.rows];
}

/** Columns of the table, in reading order; what no row has is left out. */
export function columnsOf(rows) {
  const hidden = new Set(["id", "prompt_id", "row"]);
  const have = new Set(rows.flatMap((row) => Object.keys(row).filter((k) => row[k] !== null && row[k] !== undefined)));
  return inOrder([...have].filter((k) => !hidden.has(k)));
}

/**
 * RFC 4180 CSV, with the prompt's id where there is one, and with what Python told of the rows by `row`: seed and token
 * ids. A text that a spreadsheet would take for a formula gets an apostrophe in front.
 */
export function toCSV(rows, shown, unseen = {}) {
  const named = !shown.includes("prompt_id") && rows.some((row) => row.prompt_id !== null && row.prompt_id !== undefined);
  const columns = named ? ["prompt_id", ...shown] : shown;
  const more = ["seed", "token_ids"].filter((key) => Object.values(unseen).some((parts) => key in parts));
  const told = ({ row }) => more.map((key) => [unseen[row]?.[key]].flat().join(" "));
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    let text = String(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [[...columns, ...more], ...rows.map((row) => [...columns.map((c) => row[c]), ...told(row)])].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

/** One JSON object per line, texts as they are; with what Python told of the rows by `row`, the seed digit by digit. */
export function toJSONL(rows, unseen = {}) {
  const line = ({ row, ...rest }) => {
    const { seed, token_ids } = unseen[row] ?? {};
    const parts = Object.entries(rest).filter(([, value]) => value !== undefined).map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
    if (seed !== undefined) parts.push(`"seed":${/^-?\d+$/.test(seed) ? seed : JSON.stringify(seed)}`);
    if (token_ids) parts.push(`"token_ids":${JSON.stringify(token_ids)}`);
    return `{${parts.join(",")}}`;
  };
  return rows.map(line).join("\n") + "\n";
}

/** Strength in [-1, 1] of each number of a column, scaled by the largest absolute value. */
export function strengths(values) {
  const most = values.reduce((m, v) => Math.max(m, Math.abs(v) || 0), 0);
  return values.map((v) => (most > 0 && Number.isFinite(v) ? v / most : 0));
}

const DEEPEST = 0.62; // opacity at which black and white ink both stay readable

/** Background of a token: blue below zero, orange above, transparent at zero; colour-blind readers tell the two apart. */
export function tint(strength) {
  const size = Math.min(1, Math.abs(strength)) ** 0.8;
  return strength < 0 ? `rgba(33, 102, 172, ${(DEEPEST * size).toFixed(3)})` : `rgba(213, 94, 0, ${(DEEPEST * size).toFixed(3)})`;
}

/** A token as it is read: without the one space that begins a word; other blanks and line breaks become visible. */
export function tokenText(token) {
  const word = /^ \S/.test(token) ? token.slice(1) : token;
  return word.replace(/\n/g, "⏎").replace(/^ +| +$/g, (blank) => "␣".repeat(blank.length));
}

/** Does a token go on with the word before it? */
export function joins(token, before) {
  return before !== undefined && /^[\p{L}\p{N}]/u.test(token) && /[\p{L}\p{N}]$/u.test(before);
}

/** "+0.31", "−0.31" or "0", three digits. */
export function signed(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const text = String(Number(Math.abs(value).toPrecision(3)));
  return value < 0 ? `−${text}` : value > 0 ? `+${text}` : text;
}

/** How a row stands among those beside it by score: "best", "best, with 2 others", or "". */
export function standing(row, beside) {
  const best = Math.max(...beside.map((r) => r.score ?? -Infinity));
  if (beside.length < 2 || row.score !== best) return "";
  const others = beside.filter((r) => r.score === best).length - 1;
  return others === beside.length - 1 ? "" : others ? `best, with ${others} other${others > 1 ? "s" : ""}` : "best";
}

/** Rows of the same prompt, one per source at most: the newest step of each, best source order kept. */
export function siblings(rows, row) {
  const same = rows.filter((r) => (row.prompt_id ? r.prompt_id === row.prompt_id : r.prompt === row.prompt));
  const newest = new Map();
  for (const r of same) {
    const key = r.source ?? "";
    const old = newest.get(key);
    if (r === row || !old || (old !== row && (r.step ?? 0) >= (old.step ?? 0))) newest.set(key, r);
  }
  return [...newest.values()];
}
