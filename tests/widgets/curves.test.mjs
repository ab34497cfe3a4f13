import assert from "node:assert/strict";
import { test } from "node:test";
import { CurveStore, allPositive, extent, label, logTicks, nearest, onLines, points, summary, thinned, ticks, walked, withInterval } from "../../widgets/curves.mjs";

const packet = (start, rows, extra = {}) => [
  { kind: "curve", id: 0, name: "ppo", role: "live", start, count: start + rows.length, width: 3, ...extra },
  new DataView(new Float32Array(rows.flat()).buffer),
];

function filled(...packets) {
  const store = new CurveStore();
  store.take({ kind: "clear", keys: ["score", "kl"] });
  for (const p of packets) store.take(...p);
  return store;
}

test("rows arrive in pieces, and what was not measured is left out", () => {
  const store = filled(packet(0, [[1, 0.5, NaN], [2, 0.75, 3]]), packet(2, [[3, 1, 4]]));
  const [curve] = store.ordered();
  assert.deepEqual(points(curve, store.column("score")), [[1, 0.5], [2, 0.75], [3, 1]]);
  assert.deepEqual(points(curve, store.column("kl")), [[2, 3], [3, 4]]);
});

test("a gap asks for everything, a repeat changes nothing, a rollback shortens", () => {
  const store = filled(packet(0, [[1, 1, 1], [2, 2, 2]]));
  assert.equal(store.take(...packet(5, [[6, 6, 6]])), false);
  assert.equal(store.take(...packet(1, [[2, 2, 2]])), true);
  assert.equal(store.ordered()[0].count, 2);
  store.take(...packet(1, []));
  assert.equal(store.ordered()[0].count, 1);
});

test("a byte offset in the transport does not shift the numbers", () => {
  const padded = new Uint8Array(1 + 12);
  padded.set(new Uint8Array(new Float32Array([1, 2, 3]).buffer), 1);
  const store = filled([{ kind: "curve", id: 0, name: "a", role: "live", start: 0, count: 1, width: 3 }, new DataView(padded.buffer, 1)]);
  assert.deepEqual(points(store.ordered()[0], 1), [[1, 2]]);
});

test("growth beyond the first allocation keeps every row, also a thousandfold", () => {
  const store = filled();
  for (let i = 0; i < 2000; i++) store.take(...packet(i, [[i, i / 2, i]]));
  const line = points(store.ordered()[0], 1);
  assert.equal(line.length, 2000);
  assert.deepEqual(line[1999], [1999, 999.5]);
});

test("the live curve is drawn last, ghosts first", () => {
  const store = filled(packet(0, [[1, 1, 1]]), packet(0, [[1, 1, 1]], { id: 1, role: "ghost" }), packet(0, [[1, 1, 1]], { id: 2, role: "trunk" }));
  assert.deepEqual(store.ordered().map((c) => c.role), ["ghost", "trunk", "live"]);
  store.take({ kind: "drop", id: 1 });
  assert.equal(store.ordered().length, 2);
});

test("thinning keeps spikes and ends and is cheap enough for 2,000 points on ten curves", () => {
  const line = Array.from({ length: 20000 }, (_, i) => [i, i === 7777 ? 99 : Math.sin(i)]);
  const thin = thinned(line, (x) => x / 100, 200);
  assert.ok(thin.length <= 4 * 201);
  assert.deepEqual(thin[0], line[0]);
  assert.deepEqual(thin.at(-1), line.at(-1));
  assert.ok(thin.some((p) => p[1] === 99));
  assert.ok(thin.every((p, i) => !i || thin[i - 1][0] <= p[0]), "order is kept");
  assert.equal(thinned(line.slice(0, 10), (x) => x, 200).length, 10);
});

test("limits never collapse and ticks are round and inside", () => {
  for (const values of [[], [0], [5], [NaN], [-3, 7], [1e-9, 2e-9], [1e7, 1e7]]) {
    const [low, high] = extent(values);
    assert.ok(high > low);
    const found = ticks(low, high);
    assert.ok(found.every((t) => t >= low - 1e-9 * Math.abs(low) && t <= high + 1e-9 * Math.abs(high)));
    assert.ok(found.length >= 2 && found.length <= 12, `${found}`);
  }
  for (const [low, high] of [[0.948, 1.02], [0.31, 0.52], [-0.27, 0.31], [1.76, 2.2]]) assert.ok(ticks(low, high, 2.9).length >= 2);
  assert.deepEqual(logTicks(Math.log10(0.019), Math.log10(0.036)), [0.02, 0.03]);
  assert.deepEqual(ticks(0, 1), [0, 0.5, 1]);
  assert.deepEqual(logTicks(-2, 0), [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]);
  assert.ok(logTicks(-9, 9).length <= 8);
});

test("labels are short, the nearest point is found, a log axis needs positive numbers", () => {
  assert.deepEqual([0, 0.02, 12345, 1e-5, 1.23456].map(label), ["0", "0.02", "12.3k", "1e-5", "1.23"]);
  const line = [[1, 10], [2, 20], [5, 50]];
  assert.deepEqual(nearest(line, 3), [2, 20]);
  assert.deepEqual(nearest(line, 99), [5, 50]);
  assert.equal(nearest([], 1), null);
  assert.equal(allPositive([line]), true);
  assert.equal(allPositive([[[1, 0]]]), false);
});

test("a chart is told in one sentence", () => {
  assert.equal(summary("Reward", [{ label: "score", line: [[1, 0], [2, 3], [3, 1]] }]), "Reward: score 1 at step 3, from 0 to 3");
  assert.equal(summary("Reward", []), "Reward: no data yet");
});

test("points with intervals are told, hovered and walked one by one", () => {
  const lines = [{ label: "24 prompts", line: [[10, 0.6, 0.5, 0.7], [30, 0.71, 0.62, 0.8]] }, { label: "1 prompt", line: [[15, 1, 0, 1]] }];
  assert.equal(withInterval(lines[0].line[1]), "0.71 [0.62, 0.8]");
  assert.equal(withInterval([3, 0.5]), "0.5");
  assert.deepEqual([1, 13, 22, 99].map((step) => onLines(lines, step)), [10, 15, 15, 30]);
  assert.equal(onLines([], 3), null);
  assert.deepEqual([walked([1, 40], null, -1, lines), walked([1, 40], 15, 1, lines), walked([1, 40], 15, -9, lines), walked([1, 40], 10, Infinity, lines)], [15, 30, 10, 30]);
  assert.deepEqual([walked([1, 40], null, -1), walked([1, 40], 5, -10)], [39, 1]);
  assert.equal(summary("Win rate", lines.slice(0, 1)), "Win rate: 24 prompts 0.71 [0.62, 0.8] at step 30, from 0.6 to 0.71");
});
