/**
 * The logic of the ranking board, without a page: where cards lie, what a key means, what is spoken.
 *
 * A ranking in progress is `slots`: for each card (in shown order) its rank 1..K, or null in the unranked tray. Equal
 * ranks are a tie. Ranks may have gaps while a person works, and a draft keeps them: cards come back where they were put.
 * A submit closes them, for what is stored is an order.
 */

/** Groups of card numbers by rank from 1 to the worst that is taken; a rank that nobody has is an empty group. */
export function groupsOf(slots) {
  const worst = Math.max(0, ...slots.filter((s) => s !== null));
  return Array.from({ length: worst }, (_, i) => indices(slots, i + 1));
}

/** Slots from groups of card numbers: the inverse of groupsOf. */
export function slotsOf(groups, count) {
  const slots = Array(count).fill(null);
  groups.forEach((group, place) => group.forEach((card) => (slots[card] = place + 1)));
  return slots;
}

/** Cards at a rank (null: in the tray), in shown order. */
export function indices(slots, rank) {
  return slots.flatMap((slot, card) => (slot === rank ? [card] : []));
}

/** Put a card at a rank, joining whoever is there; null puts it into the tray. */
export function place(slots, card, rank) {
  const next = [...slots];
  next[card] = rank === null ? null : clamp(rank, 1, slots.length);
  return next;
}

/** Put a card alone at a rank: whoever stands there moves down, or up where there is no room below. */
export function insert(slots, card, rank) {
  const next = place(slots, card, null);
  const count = slots.length;
  const taken = (r) => next.includes(r);
  let end = rank;
  while (end <= count && taken(end)) end += 1;
  const step = end <= count ? 1 : -1;
  if (step < 0) for (end = rank; taken(end);) end -= 1;
  for (let other = 0; other < count; other += 1) {
    const between = step > 0 ? next[other] >= rank && next[other] < end : next[other] <= rank && next[other] > end;
    if (next[other] !== null && between) next[other] += step;
  }
  next[card] = rank;
  return next;
}

/** Move a card by one rank: -1 is better. From the tray it enters at the nearer end. */
export function shift(slots, card, step) {
  const from = slots[card];
  if (from === null) return place(slots, card, step < 0 ? slots.length : 1);
  return place(slots, card, from + step);
}

/** Ranks from ratings: the best rating first, equal ratings tied; unrated cards stay in the tray. */
export function fromRatings(likert) {
  const ladder = [...new Set(likert.filter((v) => v !== null))].sort((a, b) => b - a);
  return likert.map((value) => (value === null ? null : ladder.indexOf(value) + 1));
}

/** Cards in reading order: best rank first, then the tray. */
export function readingOrder(slots) {
  const key = (card) => slots[card] ?? Infinity;
  return slots.map((_, card) => card).sort((a, b) => key(a) - key(b) || a - b);
}

/** "C at rank 2 of 5, tied with A and D", or "C is unranked". */
export function standing(slots, card, letters) {
  const rank = slots[card];
  if (rank === null) return `${letters[card]} is unranked`;
  const others = indices(slots, rank).filter((other) => other !== card);
  const tie = others.length ? `, tied with ${list(others.map((other) => letters[other]))}` : "";
  return `${letters[card]} at rank ${rank} of ${slots.length}${tie}`;
}

/** What a screen reader says after a move. */
export function spokenMove(slots, card, letters) {
  if (slots[card] === null) return `${letters[card]} moved to the unranked tray`;
  return standing(slots, card, letters).replace(" at rank", " moved to rank");
}

/** "A, B and C". */
export function list(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** The ranking in one line: "B > A = C", with what is unranked. */
export function formula(slots, letters) {
  const ranked = groupsOf(slots)
    .filter((group) => group.length)
    .map((group) => group.map((card) => letters[card]).join(" = "))
    .join(" > ");
  const tray = indices(slots, null).map((card) => letters[card]);
  return { ranked, unranked: tray.join(" ") };
}

/** How two drafts differ: {card, part: "rank" | "rate", text}, or null. Drafts are {slots, likert, flags}. */
export function difference(before, after, letters, names = {}) {
  const card = letters.findIndex(
    (_, i) => before.likert[i] !== after.likert[i] || !same(before.flags[i], after.flags[i]),
  );
  if (card >= 0) return { card, part: "rate", text: `${letters[card]}: ${spokenRating(after, card, names)}` };
  const moved = letters.findIndex((_, i) => before.slots[i] !== after.slots[i]);
  return moved < 0 ? null : { card: moved, part: "rank", text: standing(after.slots, moved, letters) };
}

/** "quality 5 of 7; hallucination", or "not rated". */
export function spokenRating(draft, card, names = {}) {
  const flags = draft.flags[card].map((flag) => names[flag] ?? flag);
  const quality = draft.likert[card] === null ? "not rated" : `quality ${draft.likert[card]} of 7`;
  return [quality, ...flags].join("; ");
}

/**
 * What a key means while a card has the focus: {do, value} or null. `part` is "rate" or "rank"; `flags` maps keys to flags.
 * Digits are read from the key's place, so that Shift+2 is an insertion on every keyboard layout.
 */
export function command({ key, code = "", shiftKey = false }, part, count, flags = {}) {
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(code)?.[1] ?? (/^\d$/.test(key) ? key : null);
  if (digit !== null && !(code.startsWith("Numpad") && !/^\d$/.test(key)))
    return digitCommand(Number(digit), part, count, shiftKey);
  const name = key.length === 1 ? key.toLowerCase() : key; // CapsLock changes nothing: Shift alone tells redo from undo
  if (name === "u") return { do: shiftKey ? "redo" : "undo" };
  if (COMMON[name]) return COMMON[name];
  if (part === "rate") return rateKey(name, flags);
  return RANK_KEYS[name] ?? null;
}

const COMMON = {
  s: { do: "skip" },
  n: { do: "cannot" },
  r: { do: "switch" },
  "?": { do: "help" },
  Enter: { do: "submit" },
  ArrowLeft: { do: "focus", value: -1 },
  ArrowRight: { do: "focus", value: 1 },
};
const RANK_KEYS = {
  ArrowUp: { do: "shift", value: -1 },
  ArrowDown: { do: "shift", value: 1 },
  Home: { do: "end", value: -1 },
  End: { do: "end", value: 1 },
  Backspace: { do: "rank", value: null },
  Delete: { do: "rank", value: null },
  o: { do: "order" },
  " ": { do: "scroll", value: 1 },
  PageDown: { do: "scroll", value: 1 },
  PageUp: { do: "scroll", value: -1 },
};

function digitCommand(digit, part, count, shifted) {
  if (part === "rate") return digit <= 7 ? { do: "likert", value: digit || null } : null;
  if (digit > count) return { do: "beyond", value: digit };
  if (digit === 0) return { do: "rank", value: null };
  return { do: shifted ? "insert" : "rank", value: digit };
}

function rateKey(key, flags) {
  if (key === "Backspace" || key === "Delete") return { do: "likert", value: null };
  if (key === "ArrowUp" || key === "ArrowDown") return { do: "focus", value: key === "ArrowUp" ? -1 : 1 };
  if (key === " " || key === "PageDown" || key === "PageUp") return { do: "scroll", value: key === "PageUp" ? -1 : 1 };
  return key in flags ? { do: "flag", value: flags[key] } : null;
}

/** The beginning of a text, cut at a word, for reading out. */
export function excerpt(text, most) {
  const whole = text.trim();
  if (whole.length <= most) return whole;
  const cut = whole.slice(0, most);
  return `${/\s/.test(whole[most]) ? cut.trim() : cut.replace(/\s+\S*$/, "")}, and so on`;
}

/** "3 cards come next", or nothing. */
export function comingNext(count) {
  return count ? `${count} card${count === 1 ? " comes" : "s come"} next` : "";
}

/** "45 s", "3 min", "1 h 20 min". */
export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function same(a, b) {
  return a.length === b.length && a.every((flag) => b.includes(flag));
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
