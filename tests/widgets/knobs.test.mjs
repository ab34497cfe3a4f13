import assert from "node:assert/strict";
import { test } from "node:test";
import { POSITIONS, fate, floorOf, position, typed, valueAt, write } from "../../widgets/knobs.mjs";

const KNOBS = [
  { name: "kl_coef", low: 0, high: 10, log: true, start: 0.02 },
  { name: "ptx_coef", low: 0, high: 1000, log: true, start: 0 },
  { name: "kl_target", low: 0.01, high: 1000, log: true, start: 6 },
  { name: "clip", low: 0.01, high: 1, log: false, start: 0.2 },
];

test("every slider position gives a value within the bounds, growing, and finds its way back", () => {
  for (const knob of KNOBS) {
    let last = -Infinity;
    for (let at = 0; at <= POSITIONS; at++) {
      const value = valueAt(knob, at);
      assert.ok(value >= knob.low && value <= knob.high, `${knob.name} ${at} ${value}`);
      assert.ok(value >= last);
      last = value;
      assert.ok(Math.abs(position(knob, value) - at) <= 3, `${knob.name}: ${at} -> ${value} -> ${position(knob, value)}`);
    }
    assert.equal(valueAt(knob, 0), knob.low);
    assert.equal(valueAt(knob, POSITIONS), knob.high);
  }
});

test("zero has a place of its own on a logarithmic slider, and small values do not fall onto it", () => {
  const [beta] = KNOBS;
  assert.equal(position(beta, 0), 0);
  assert.equal(position(beta, floorOf(beta) / 100), 1);
});

test("one step to the right of any start is a change", () => {
  for (const knob of KNOBS) assert.notEqual(valueAt(knob, position(knob, knob.start) + 10), knob.start);
});

test("numbers are written as people write them, and read as they type them", () => {
  assert.deepEqual([0, 0.02, 1e-5, 9.65e-6, 27.8, 1000, null].map(write), ["0", "0.02", "1e-5", "9.65e-6", "27.8", "1000", "–"]);
  assert.deepEqual(["0,02", " 1e-5 ", "", "abc", "7"].map(typed), [0.02, 1e-5, null, null, 7]);
});

test("what is no number is written as it is, also in what became of a request", () => {
  assert.deepEqual(["0.05", "nan", [0.1], true, Infinity].map(write), ["0.05", "nan", "0.1", "true", "Infinity"]);
  const last = { step: 3, outcome: "refused", reason: "no number", by: "hand", asked: "0.05", old: 0.02, new: 0.02 };
  assert.equal(fate({ waiting: null, last }).text, "0.05 refused at step 3: no number");
  assert.match(fate({ waiting: "nan", last: null }).text, /^asked nan/);
});

test("what became of a request is said: waiting, applied with its step, clamped, refused with its reason", () => {
  const last = { step: 13, outcome: "applied", reason: "", by: "hand", asked: 0.1, old: 0.02, new: 0.1 };
  assert.deepEqual(fate({ waiting: 0.1, last: null }), { tone: "waiting", text: "asked 0.1, waits for the next step" });
  assert.deepEqual(fate({ waiting: null, last }), { tone: "good", text: "0.02 → 0.1 since step 13" });
  assert.match(fate({ waiting: null, last: { ...last, by: "controller" } }).text, /by the controller$/);
  assert.match(fate({ waiting: null, last: { ...last, outcome: "clamped" } }).text, /clamped to 0.1/);
  assert.deepEqual(fate({ waiting: null, last: { ...last, outcome: "refused", reason: "too high" } }), { tone: "bad", text: "0.1 refused at step 13: too high" });
  assert.equal(fate({ waiting: null, last: null }).text, "");
});
