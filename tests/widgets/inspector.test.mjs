import assert from "node:assert/strict";
import { test } from "node:test";
import { choices, columnsOf, filterRows, joins, offer, oneStep, siblings, signed, sortRows, standing, strengths, tint, toCSV, toJSONL, tokenText, withBatch } from "../../widgets/inspector.mjs";

const ROWS = [
  { row: 0, source: "sft", step: 1, prompt_id: "p0", prompt: "Where?", response: "In the Wood", score: 0.5, finished: true },
  { row: 1, source: "ppo", step: 10, prompt_id: "p0", prompt: "Where?", response: "In the water", score: 2, finished: false },
  { row: 2, source: "ppo", step: 2, prompt_id: "p0", prompt: "Where?", response: "Nowhere", score: null, finished: true },
  { row: 3, source: "ppo", step: 10, prompt_id: "p1", prompt: "Why?", response: "Because", score: -1, finished: true },
];
const places = (rows) => rows.map((r) => r.row);

test("a search needs every word in prompt or response; menus compare exactly", () => {
  assert.deepEqual(places(filterRows(ROWS, { search: "where wood" })), [0]);
  assert.deepEqual(places(filterRows(ROWS, { search: "", source: "ppo", step: "10" })), [1, 3]);
  assert.deepEqual(places(filterRows(ROWS, { search: "", finished: "false" })), [1]);
  assert.deepEqual(places(filterRows(ROWS, { search: "" })), [0, 1, 2, 3]);
});

test("numbers sort by size, what is missing stays last, and the rows given are not moved", () => {
  assert.deepEqual(places(sortRows(ROWS, "score", true)), [1, 0, 3, 2]);
  assert.deepEqual(places(sortRows(ROWS, "score", false)), [3, 0, 1, 2]);
  assert.deepEqual(places(sortRows(ROWS, "step", false)), [0, 2, 1, 3]);
  assert.deepEqual(places(ROWS), [0, 1, 2, 3]);
});

test("columns come in reading order, without ids and without empty ones", () => {
  assert.deepEqual(columnsOf([{ ...ROWS[0], gold: null, extra: 1 }]), ["source", "step", "prompt", "response", "score", "finished", "extra"]);
  assert.deepEqual(choices(ROWS, "source"), ["sft", "ppo"]);
});

test("CSV quotes what it must and disarms formulas; JSONL gives every text back", () => {
  const rows = [{ a: 'say "hi",\nthere', b: -1.5, c: "=1+1", d: true, e: null }];
  assert.equal(toCSV(rows, ["a", "b", "c", "d", "e"]), `a,b,c,d,e\r\n"say ""hi"",\nthere",-1.5,'=1+1,true,\r\n`);
  const one = [{ ...ROWS[0], note: null }];
  assert.equal(toCSV(one, columnsOf(one)).split("\r\n")[0], "prompt_id,source,step,prompt,response,score,finished", "a file keeps the id that the table hides");
  const hostile = { row: 7, response: '<img onerror="x">\u202e\n"' };
  assert.deepEqual(JSON.parse(toJSONL([hostile])), { response: hostile.response });
});

test("colours: nothing at zero, full at the largest, blue below and orange above", () => {
  assert.deepEqual(strengths([2, -4, 0, NaN, null]), [0.5, -1, 0, 0, 0]);
  assert.deepEqual(strengths([0, 0]), [0, 0]);
  assert.match(tint(0), /, 0\.000\)/);
  assert.match(tint(-1), /^rgba\(33, 102, 172/);
  assert.match(tint(1), /^rgba\(213, 94, 0/);
  const alpha = (c) => Number(c.match(/([\d.]+)\)$/)[1]);
  assert.ok(alpha(tint(1)) > alpha(tint(0.3)) && alpha(tint(0.3)) > 0);
});

test("blank tokens are seen, words lose the space that begins them, parts of a word are joined", () => {
  assert.deepEqual([" fox", "fox", "\n", "  ", " "].map(tokenText), ["fox", "fox", "⏎", "␣␣", "␣"]);
  assert.equal(joins("es", " fox"), true);
  assert.equal(joins(" eats", " fox"), false);
  assert.equal(joins(".", " fox"), false);
  assert.equal(joins("The", undefined), false);
});

test("siblings are one per source, the newest, but always the one that was chosen", () => {
  assert.deepEqual(places(siblings(ROWS, ROWS[0])), [0, 1]);
  assert.deepEqual(places(siblings(ROWS, ROWS[2])), [0, 2]);
  assert.deepEqual(places(siblings(ROWS, ROWS[3])), [3]);
});

test("a change is written with its sign", () => {
  assert.deepEqual([0.3111, -2, 0, null].map(signed), ["+0.311", "−2", "0", "–"]);
});

test("the best by score is named, shared first places say so, and where all are alike nobody is", () => {
  const stands = (...scores) => scores.map((score) => standing({ score }, scores.map((s) => ({ score: s }))));
  assert.deepEqual(stands(1, 3, 2), ["", "best", ""]);
  assert.deepEqual(stands(3, 3, 2, null), ["best, with 1 other", "best, with 1 other", "", ""]);
  assert.deepEqual(stands(3, 3, 3, 1)[0], "best, with 2 others");
  assert.deepEqual(stands(2, 2), ["", ""]);
  assert.deepEqual(stands(2), [""]);
});

test("a whole batch is of one source and one step, which menus or the rows themselves leave", () => {
  assert.equal(oneStep(ROWS, {}), null);
  assert.equal(oneStep(ROWS, { source: "ppo" }), null);
  assert.deepEqual(oneStep(ROWS, { source: "ppo", step: "10" }), { source: "ppo", step: 10 });
  const alone = ROWS.filter((r) => r.source === "ppo");
  assert.deepEqual(oneStep(alone, { source: "", step: "2" }), { source: "ppo", step: 2 });
  assert.deepEqual(oneStep(alone.slice(1, 2), {}), { source: "ppo", step: 2 });
  assert.equal(oneStep([{ source: "base" }], {}), null, "no step, no batch");
});

test("a step whose samples are not on the page has a batch all the same", () => {
  const offered = { source: ["base", "ppo"], step: [0, 2, 10] };
  assert.deepEqual(offer(offered, ROWS, "step"), ["0", "2", "10"]);
  assert.deepEqual(offer(offered, [{ finished: true }], "finished"), ["true"]);
  assert.deepEqual(oneStep([], { source: "ppo", step: "2" }, offered), { source: "ppo", step: 2 });
  assert.deepEqual(oneStep([], { step: "2" }, { source: ["ppo"], step: [2, 10] }), { source: "ppo", step: 2 });
  assert.equal(oneStep(ROWS, { source: "ppo" }, offered), null);
});

test("a file gets the seeds digit by digit and the token ids, and a row that has none keeps its shape", () => {
  const unseen = { 3: { seed: "4611686018427387906", token_ids: [5, 6] } };
  const rows = [{ row: 3, response: "a" }, { row: 4, response: "b" }];
  assert.equal(toJSONL(rows, unseen), '{"response":"a","seed":4611686018427387906,"token_ids":[5,6]}\n{"response":"b"}\n');
  assert.equal(toJSONL([{ row: 3 }], { 3: { seed: "7" } }), '{"seed":7}\n');
  assert.equal(toCSV(rows, ["response"], unseen), "response,seed,token_ids\r\na,4611686018427387906,5 6\r\nb,,\r\n");
  assert.equal(toCSV(rows, ["response"], {}), "response\r\na\r\nb\r\n");
});

test("a whole batch takes the place of that step's samples and of nothing else", () => {
  const batch = { source: "ppo", step: 10, rows: [7, 8, 9].map((row) => ({ row, source: "ppo", step: 10 })) };
  assert.deepEqual(places(withBatch(ROWS, batch)), [0, 2, 7, 8, 9]);
  assert.deepEqual(places(withBatch(ROWS, {})), [0, 1, 2, 3]);
});
