/** Hidden characters become visible pieces; everything else stays as it is. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { segments } from "../../widgets/visible.mjs";

const codes = (text) =>
  segments(text)
    .filter((piece) => piece.hidden)
    .map((piece) => piece.code);
const plain = (text) =>
  segments(text)
    .filter((piece) => !piece.hidden)
    .map((piece) => piece.text)
    .join("");

test("marks that turn or hide text are shown", () => {
  assert.deepEqual(codes("good\u202edab\u202c"), ["U+202E", "U+202C"]);
  assert.deepEqual(codes("a\u200bb\u2066c\u00adx\ufeff\u0007"), ["U+200B", "U+2066", "U+00AD", "U+FEFF", "U+0007"]);
  assert.deepEqual(codes("tag \u{e0041}"), ["U+E0041"]);
  assert.equal(segments("a\u202eb")[1].name, "right-to-left override");
});

test("letters and marks that look like nothing are shown, a picture's selector is not", () => {
  assert.deepEqual(codes("a\u034fb\u3164c\u180bd\ufe00e\u{e0101}f\u2800"), ["U+034F", "U+3164", "U+180B", "U+FE00", "U+E0101", "U+2800"]);
  assert.deepEqual(codes("\u2764\ufe0f"), []);
});

test("ordinary text of any script is one piece", () => {
  for (const text of [
    "plain",
    "two\nlines\tand a tab",
    "<img src=x onerror=alert(1)>",
    "$x$",
    "שלום",
    "مرحبا",
    "日本語",
    "é",
    "👍🏽",
  ]) {
    assert.deepEqual(segments(text), [{ text }]);
  }
  assert.deepEqual(segments(""), []);
});

test("a joiner inside an emoji stays, elsewhere it is shown", () => {
  assert.deepEqual(codes("👩‍🔬"), []);
  assert.deepEqual(codes("ab\u200dcd"), ["U+200D"]);
});

test("no character is lost", () => {
  const text = "a\u202eb\u0000c\nd";
  assert.equal(plain(text), "abc\nd");
  assert.equal(codes(text).length + [...plain(text)].length, [...text].length);
});
