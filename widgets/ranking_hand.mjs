/**
 * What a hand is at when another card comes up that it did not ask for, as by another tab or by code: the text that it was typing
 * is kept, and what it types on gives no command on a card that nobody has looked at.
 */
const DEAF = 800; // ms without a key, after which a hand has seen that the card is another

/** The note or reason being typed, with the turn of the card that it is about; null where no hand is at work. */
export function halfTyped(board) {
  const field = board.root.contains(document.activeElement) ? document.activeElement : null;
  const busy = field?.matches("input[type=text]") || field?.closest(".rb-panel:not(.rb-help)");
  const text = field?.dataset.key === "reason" ? field.value : board.noting ? board.comment : "";
  return busy || text ? { turn: board.turn, text: text.trim() } : null;
}

/** Store such a text under its own card; returns the sentence that says so. */
export function keepTyped(board, { turn, text }) {
  board.deafUntil = performance.now() + DEAF;
  if (text) board.send({ do: "note", turn, text });
  return `Another card came up while you typed. ${text ? "The text is kept as a note on the card before. " : ""}`;
}

/** Whether a key belongs to what was being typed: all do, until the hand rests. */
export function typedOn(board) {
  const deaf = performance.now() < board.deafUntil;
  if (deaf) board.deafUntil = performance.now() + DEAF;
  return deaf;
}
