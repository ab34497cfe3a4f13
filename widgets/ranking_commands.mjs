/**
 * What each command does to the ranking board: commands[name](board, value, card). Keys, buttons and drops all end here.
 */
import { fromRatings, indices, insert, list, place, readingOrder, shift, spokenMove, standing } from "./ranking.mjs";

const GLANCE = 400; // ms in which nobody has looked at a card again: a submit so early was meant for the one before

/** Commands that a key gives only while a card, or something in it, has the focus. */
export const cardCommands = new Set(["rank", "insert", "shift", "end", "beyond", "likert", "flag", "scroll"]);

/** Commands that change nothing: they work while the kernel does not answer. */
export const looking = new Set(["help", "close", "part", "switch", "focus", "scroll"]);

/** Commands about what was decided, and the actions: they go on while a decision is under way. */
export const travelling = new Set(["undo", "redo", "show", "action"]);

/** Commands that a key held down gives again and again; all others it gives once. */
export const repeatable = new Set(["shift", "focus", "scroll"]);

export const commands = {
  rank: (board, rank, card, event) => move(board, card, (slots) => place(slots, card, rank), event),
  insert: (board, rank, card, event) => move(board, card, (slots) => insert(slots, card, rank), event),
  shift: (board, step, card, event) => move(board, card, (slots) => shift(slots, card, step), event),
  end: (board, side, card, event) =>
    move(board, card, (slots) => place(slots, card, side < 0 ? 1 : slots.length), event),
  beyond: (board, rank) => board.tell(`There are ${board.letters.length} ranks; ${rank} is none of them.`),

  /** A click on a rank sends the chosen card there. */
  offer(board, rank, card, event) {
    if (card !== null && !board.justDropped) commands.rank(board, rank, card, event);
  },

  order(board) {
    if (board.part !== "rank" || board.likert.every((value) => value === null)) return;
    board.slots = fromRatings(board.likert);
    board.say("Ranked by your ratings; equal ratings are tied.");
    board.sendCard("draft");
  },

  likert(board, value, card) {
    if (card === null) return;
    board.likert[card] = value;
    board.say(`${board.letters[card]}: ${value === null ? "rating taken back" : `quality ${value} of 7`}`);
    board.sendCard("draft");
  },

  flag(board, flag, card) {
    if (card === null) return;
    const on = board.flags[card].includes(flag);
    board.flags[card] = on ? board.flags[card].filter((f) => f !== flag) : [...board.flags[card], flag];
    board.say(`${board.letters[card]}: ${board.flagNames[flag]} ${on ? "off" : "on"}`);
    board.sendCard("draft");
  },

  comment(board, text) {
    board.comment = text;
    board.sendCard("draft");
  },

  part(board, part) {
    board.part = part;
    board.comeUp = true;
    const standings = board.letters.map((_, card) => standing(board.slots, card, board.letters));
    board.say(part === "rank" ? `Ranking. ${standings.join("; ")}` : "Rating.");
  },

  switch(board) {
    if (board.view.modes.length < 2) return;
    commands.part(board, board.part === "rate" ? "rank" : "rate");
    board.focusAfterDraw = `card:${board.chosen ?? 0}`;
  },

  /** Go on from rating to ranking, or store the card. What is left open is named first; a second Enter goes on anyway. */
  submit(board) {
    if (board.card.decided && performance.now() - board.since < GLANCE)
      return board.tell("This card has just come up: look at it, then submit it.");
    const open = missing(board);
    if (open.length && board.confirm !== board.part) {
      board.focusAfterDraw = `card:${open[0]}`;
      return board.tell(askAbout(board, open));
    }
    board.confirm = "";
    if (board.part === board.view.modes.at(-1)) return board.sendCard("submit");
    commands.part(board, "rank");
    board.focusAfterDraw = "card:0";
  },

  /** A card that was decided before is left as it was: a look takes nothing away. */
  skip: (board) => (board.card.decided ? board.decide({ do: "skip", reason: "" }) : openPanel(board, "skip")),
  cannot: (board) => openPanel(board, "cannot_judge"),

  aside(board, reason) {
    if (board.panel === "cannot_judge" && !reason.trim())
      return board.tell("Cannot judge needs a reason: one phrase is enough.");
    board.decide({ do: board.panel, reason });
    board.panel = null;
  },

  help(board) {
    board.panel = board.panel === "help" ? null : "help";
    board.focusAfterDraw = board.panel ? "help-panel" : `card:${board.chosen ?? 0}`;
  },

  close(board) {
    board.panel = null;
    board.focusAfterDraw = `card:${board.chosen ?? 0}`;
  },

  undo: (board) => travel(board, "undo"),
  redo: (board) => travel(board, "redo"),

  show(board, row) {
    board.hadFocus = true;
    board.send({ do: "show", row });
  },

  action: (board, name) => board.send({ do: "action", name }),

  focus(board, step, card) {
    const order = board.part === "rank" ? readingOrder(board.slots) : board.letters.map((_, i) => i);
    const at = card === null ? 0 : order.indexOf(card) + step;
    board.focusAfterDraw = `card:${order[(at + order.length) % order.length]}`;
  },

  scroll(board, step, card) {
    const box = board.root.querySelector(`[data-scroll="${card}"]`);
    box?.scrollBy({ top: step * box.clientHeight * 0.8 });
  },
};

function move(board, card, how, event) {
  if (card === null || board.part !== "rank") return;
  board.slots = how(board.slots);
  board.chosen = card;
  board.say(spokenMove(board.slots, card, board.letters));
  board.sendCard("draft");
  if (!event.keep) board.focusAfterDraw = `card:${card}`;
}

function missing(board) {
  return board.part === "rate" ? indices(board.likert, null) : indices(board.slots, null);
}

/** The sentence about cards that are not rated or ranked yet; sets what a second Enter will confirm. */
function askAbout(board, open) {
  const rating = board.part === "rate";
  const verb = `${open.length > 1 ? "are" : "is"} not ${rating ? "rated" : "ranked"} yet`;
  const names = list(open.map((card) => board.letters[card]));
  if (!rating && board.letters.length - open.length < 2) {
    return `${names} ${verb}. Rank at least two, or say that the card cannot be judged (n).`;
  }
  board.confirm = board.part;
  return `${names} ${verb}. ${rating ? "Enter again goes on without." : "Enter again submits; unranked responses take part in no comparison."}`;
}

function openPanel(board, name) {
  if (!board.letters.length) return;
  board.panel = name;
  board.focusAfterDraw = "reason";
}

function travel(board, direction) {
  board.awaitsUndo = board.hadFocus = true;
  board.send({ do: direction });
}
