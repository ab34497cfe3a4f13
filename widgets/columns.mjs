/**
 * Columns of the boards' tables, pure: their headings and hints, and numbers of one column with as many decimals each, so
 * that they stand under each other.
 */

/** Columns in reading order, the same on every board. */
const FIRST = ["source", "step", "prompt", "response", "score", "gold", "kl", "length", "finished"];

const HEADINGS = { kl: "KL", win_rate: "win rate" };

const HINTS = {
  source: "Which model wrote it",
  step: "The training step at which it was sampled",
  score: "The reward model's score",
  gold: "What the answer is really worth in the world, 0 to 1; no training sees it",
  kl: "How far the policy has left the PPO init on this response: sum of log-ratios, in nats",
  length: "Tokens in the response",
  finished: "Did it end by itself, with the end token, and not at the length limit?",
  asked: "The value that was asked for",
  became: "The value that the knob has had since",
  outcome: "applied, clamped to its bounds, or refused",
  by: "The hand, the KL controller, a schedule or a replay",
};

/** Keys of rows in the order in which their columns stand. */
export const inOrder = (keys) => [...FIRST.filter((k) => keys.includes(k)), ...keys.filter((k) => !FIRST.includes(k))];

export const heading = (key) => HEADINGS[key] ?? key;

export const hint = (key) => HINTS[key] ?? null;

/** How a column writes a number: a function, or null where not every value is a number. Missing ones (null) count as none. */
export function numbers(values) {
  const there = values.filter((v) => v !== null && v !== undefined && v !== "");
  if (!there.length || !there.every((v) => typeof v === "number")) return null;
  const decimals = Math.max(...there.map((v) => (tiny(v) ? 0 : places(v))));
  return (v) => (tiny(v) ? rounded(v) : v.toFixed(decimals));
}

const rounded = (v) => String(Number(v.toPrecision(4)));

/** So small that a fixed number of decimals would show zeros only. */
const tiny = (v) => v !== 0 && Math.abs(v) < 0.001;

const places = (v) => Math.min(Math.abs(v) < 100 ? 3 : 1, (rounded(v).split(".")[1] ?? "").length);
