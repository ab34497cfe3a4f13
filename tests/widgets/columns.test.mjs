import assert from "node:assert/strict";
import { test } from "node:test";
import { heading, hint, numbers } from "../../widgets/columns.mjs";

test("numbers of one column have as many decimals each", () => {
  const write = numbers([2.065, 1.65, -3.2, null]);
  assert.deepEqual([2.065, 1.65, -3.2, 0].map(write), ["2.065", "1.650", "-3.200", "0.000"]);
  assert.deepEqual([14, 9].map(numbers([14, 9])), ["14", "9"]);
  assert.deepEqual([123.4, 3].map(numbers([123.4, 3])), ["123.4", "3.0"]);
  assert.equal(numbers([0.5, 1e-5])(1e-5), "0.00001");
  assert.equal(numbers([1, "1e-5"]), null);
  assert.equal(numbers([null, undefined]), null);
});

test("columns that are no plain words have a hint", () => {
  assert.equal(heading("kl"), "KL");
  assert.equal(heading("score"), "score");
  assert.match(hint("gold"), /no training/);
  assert.equal(hint("prompt"), null);
});
