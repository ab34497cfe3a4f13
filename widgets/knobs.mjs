/**
 * Pure logic of the knob panel: where a value stands on its slider, how a number is written, what a row says.
 * A logarithmic slider whose knob may be 0 keeps its leftmost position for 0.
 */

export const POSITIONS = 1000;

/** The smallest value above zero that the slider of a logarithmic knob can reach. */
export function floorOf(knob) {
  if (knob.low > 0) return knob.low;
  return knob.start > 0 ? Math.min(knob.start, knob.high) / 1000 : knob.high / 1e6;
}

/** Slider position (0..POSITIONS) of a value. */
export function position(knob, value) {
  if (!knob.log) return Math.round((POSITIONS * (value - knob.low)) / (knob.high - knob.low));
  const floor = floorOf(knob);
  if (value <= 0) return 0;
  const share = Math.log(value / floor) / Math.log(knob.high / floor);
  const first = knob.low > 0 ? 0 : 1;
  return Math.max(first, Math.min(POSITIONS, Math.round(first + share * (POSITIONS - first))));
}

/** Value at a slider position, rounded to three digits so that the ledger stays readable, never outside the bounds. */
export function valueAt(knob, at) {
  if (at <= 0) return knob.low;
  if (at >= POSITIONS) return knob.high;
  if (!knob.log) return bounded(knob, digits(knob.low + (at / POSITIONS) * (knob.high - knob.low)));
  const first = knob.low > 0 ? 0 : 1;
  const floor = floorOf(knob);
  return bounded(knob, digits(floor * (knob.high / floor) ** ((at - first) / (POSITIONS - first))));
}

function bounded(knob, value) {
  return Math.max(knob.low, Math.min(knob.high, value));
}

function digits(value) {
  return Number(value.toPrecision(3));
}

/** A number as people write it: 0.02, 1e-5, 27.8, 1200; anything else as it is. */
export function write(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return String(value); // a text, or what JSON has no number for
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

/** What the line under a knob says, and in which tone: "", waiting, good or bad. */
export function fate(row) {
  if (row.waiting !== null && row.waiting !== undefined) return { tone: "waiting", text: `asked ${write(row.waiting)}, waits for the next step` };
  const last = row.last;
  if (!last) return { tone: "", text: "" };
  const by = last.by === "hand" ? "" : ` by ${last.by === "controller" ? "the controller" : last.by}`;
  if (last.outcome === "refused") return { tone: "bad", text: `${write(last.asked)} refused at step ${last.step}: ${last.reason}` };
  if (last.outcome === "clamped") return { tone: "good", text: `asked ${write(last.asked)}, clamped to ${write(last.new)} at step ${last.step}${by}` };
  return { tone: "good", text: `${write(last.old)} → ${write(last.new)} since step ${last.step}${by}` };
}

/** A number typed by a person: accepts 1e-5, 0,02 and blanks; null when it is none. */
export function typed(text) {
  const clean = text.trim().replace(",", ".");
  return clean !== "" && Number.isFinite(Number(clean)) ? Number(clean) : null;
}
