/** The ranking board's logic without a page; run by tests/widgets/test_node.py or by hand: node --test tests/widgets */
import assert from "node:assert/strict";
import { test } from "node:test";

import {
  comingNext,
  command,
  difference,
  duration,
  excerpt,
  formula,
  fromRatings,
  groupsOf,
  insert,
  list,
  place,
  readingOrder,
  shift,
  slotsOf,
  spokenMove,
  spokenRating,
  standing,
} from "../../widgets/ranking.mjs";

const LETTERS = ["A", "B", "C", "D", "E"];
const EMPTY = Array(5).fill(null);

/** All ways to lay three cards on three ranks or the tray. */
function layouts() {
  const choices = [null, 1, 2, 3];
  return choices.flatMap((a) => choices.flatMap((b) => choices.map((c) => [a, b, c])));
}

test("the same rank is a tie, another digit moves, null unranks", () => {
  let slots = place(EMPTY, 2, 2);
  slots = place(slots, 0, 2);
  assert.deepEqual(groupsOf(slots), [[], [0, 2]]);
  slots = place(slots, 0, 1);
  assert.deepEqual(groupsOf(slots), [[0], [2]]);
  slots = place(slots, 0, null);
  assert.deepEqual(groupsOf(slots), [[], [2]]);
  assert.deepEqual(EMPTY, Array(5).fill(null), "places are copied, never changed");
});

test("what is sent brings every card back to the rank where it was put, gaps and all", () => {
  for (const slots of layouts()) assert.deepEqual(slotsOf(groupsOf(slots), 3), slots);
  assert.deepEqual(groupsOf([1, 3, null]), [[0], [], [1]]);
  assert.deepEqual(formula([1, 3, null], LETTERS), { ranked: "A > B", unranked: "C" }, "a gap means nothing in the order");
});

test("an insertion leaves the card alone at its rank and keeps everyone else's order", () => {
  for (const slots of layouts()) {
    for (const card of [0, 1, 2]) {
      for (const rank of [1, 2, 3]) {
        const next = insert(slots, card, rank);
        assert.equal(next[card], rank);
        assert.equal(next.filter((slot) => slot === rank).length, 1, `${slots} + ${card} at ${rank} = ${next}`);
        assert.ok(next.every((slot) => slot === null || (slot >= 1 && slot <= 3)));
        const others = [0, 1, 2].filter((other) => other !== card);
        const sign = (s) => Math.sign((s[others[0]] ?? 99) - (s[others[1]] ?? 99));
        assert.equal(sign(next), sign(slots), `${slots} + ${card} at ${rank} = ${next}`);
      }
    }
  }
});

test("arrows move by one rank, stop at the ends, and enter from the tray", () => {
  assert.deepEqual(shift([1, 2, null], 1, -1), [1, 1, null]);
  assert.deepEqual(shift([1, 2, null], 0, -1), [1, 2, null]);
  assert.deepEqual(shift([1, 3, null], 1, 1), [1, 3, null]);
  assert.deepEqual(shift([1, 2, null], 2, 1), [1, 2, 1]);
  assert.deepEqual(shift([1, 2, null], 2, -1), [1, 2, 3]);
});

test("ratings become ranks, equal ratings ties, unrated cards stay out", () => {
  assert.deepEqual(fromRatings([3, 7, 3, null, 5]), [3, 1, 3, null, 2]);
});

test("what is spoken names rank, number of ranks and ties", () => {
  const slots = [2, null, 2, 2, 1];
  assert.equal(spokenMove(slots, 2, LETTERS), "C moved to rank 2 of 5, tied with A and D");
  assert.equal(spokenMove(slots, 1, LETTERS), "B moved to the unranked tray");
  assert.equal(standing(slots, 4, LETTERS), "E at rank 1 of 5");
  assert.equal(standing(slots, 1, LETTERS), "B is unranked");
  assert.equal(list([]), "");
  assert.equal(list(["A", "B", "C"]), "A, B and C");
  assert.deepEqual(readingOrder(slots), [4, 0, 2, 3, 1]);
  assert.deepEqual(formula(slots, LETTERS), { ranked: "E > A = C = D", unranked: "B" });
});

test("two drafts differ in a rating or in the place of a card", () => {
  const draft = (more) => ({ slots: [1, 2, null], likert: [null, 4, null], flags: [[], ["opinion"], []], ...more });
  const letters = ["A", "B", "C"];
  assert.equal(difference(draft({}), draft({}), letters), null);
  assert.equal(difference(draft({}), draft({ slots: [1, 3, null] }), letters).text, "B at rank 3 of 3");
  assert.deepEqual(difference(draft({}), draft({ slots: [1, 2, 2] }), letters), {
    card: 2,
    part: "rank",
    text: "C at rank 2 of 3, tied with B",
  });
  const change = difference(draft({}), draft({ likert: [6, 4, null] }), letters);
  assert.deepEqual(change, { card: 0, part: "rate", text: "A: quality 6 of 7" });
  const flagged = difference(draft({}), draft({ flags: [[], ["opinion"], ["violent"]] }), letters);
  assert.deepEqual(flagged, { card: 2, part: "rate", text: "C: not rated; violent" });
  assert.equal(spokenRating(draft({}), 1, { opinion: "Expresses opinion" }), "quality 4 of 7; Expresses opinion");
});

test("a key means what the part says", () => {
  const key = (key, more = {}) => ({ key, code: /^\d$/.test(key) ? `Digit${key}` : "", ...more });
  assert.deepEqual(command(key("3"), "rank", 5), { do: "rank", value: 3 });
  assert.deepEqual(command(key("0"), "rank", 5), { do: "rank", value: null });
  assert.deepEqual(command(key("6"), "rank", 5), { do: "beyond", value: 6 });
  assert.deepEqual(command({ key: "@", code: "Digit2", shiftKey: true }, "rank", 5), { do: "insert", value: 2 });
  assert.deepEqual(command({ key: "4", code: "Numpad4" }, "rank", 5), { do: "rank", value: 4 });
  assert.equal(
    command({ key: "ArrowLeft", code: "Numpad4" }, "rank", 5).do,
    "focus",
    "the key pad without NumLock moves",
  );
  assert.deepEqual(
    command({ key: "é", code: "Digit2" }, "rate", 5),
    { do: "likert", value: 2 },
    "digits of an AZERTY row",
  );
  assert.deepEqual(command(key("7"), "rate", 5), { do: "likert", value: 7 });
  assert.equal(command(key("8"), "rate", 5), null);
  assert.deepEqual(command(key("h"), "rate", 5, { h: "hallucination" }), { do: "flag", value: "hallucination" });
  assert.equal(command(key("h"), "rank", 5, { h: "hallucination" }), null);
  assert.deepEqual(command(key("u"), "rank", 5), { do: "undo" });
  assert.deepEqual(command(key("U", { shiftKey: true }), "rank", 5), { do: "redo" });
  assert.deepEqual(command(key("U"), "rank", 5), { do: "undo" }, "CapsLock turns no undo into a redo");
  assert.deepEqual(command(key("u", { shiftKey: true }), "rank", 5), { do: "redo" }, "CapsLock with Shift");
  assert.deepEqual(command(key("H"), "rate", 5, { h: "hallucination" }), { do: "flag", value: "hallucination" });
  assert.deepEqual(command(key("ArrowUp"), "rank", 5), { do: "shift", value: -1 });
  assert.deepEqual(command(key("Enter"), "rank", 5), { do: "submit" });
  assert.equal(command(key("d"), "rank", 5), null);
});

test("durations are short words", () => {
  assert.deepEqual([12.4, 200, 3600 + 1200].map(duration), ["12 s", "3 min", "1 h 20 min"]);
});

test("what comes next is counted, and nothing is nothing", () => {
  assert.deepEqual([0, 1, 3].map(comingNext), ["", "1 card comes next", "3 cards come next"]);
});

test("an excerpt ends at a word and says that it is one", () => {
  assert.equal(excerpt("short", 10), "short");
  assert.equal(excerpt("  one two three ", 8), "one two, and so on");
  const long = excerpt("x".repeat(5000), 300);
  assert.ok(long.startsWith("xxx") && long.length < 320 && long.endsWith(", and so on"));
});
