/**
 * What the ranking board shows in its middle: the cards to be rated, then the ranks, the tray and the cards in them.
 * Functions from state to elements; `act` is the board's one door for everything that a person does.
 */
import { fillAnswer, h } from "./dom.mjs";
import { indices, readingOrder, spokenRating, standing } from "./ranking.mjs";

const QUALITY = ["very poor", "poor", "weak", "middling", "good", "very good", "excellent"];

/** The cards to be rated, each with its text, overall quality and flags. */
export function rateGrid(board) {
  return h(
    "div",
    { class: "rb-grid", role: "group", "aria-label": "Responses to rate", "aria-describedby": board.id("prompt") },
    board.card.cards.map((_, card) => rateCard(board, card)),
  );
}

function rateCard(board, card) {
  const letter = board.letters[card];
  const heading = h("h4", { class: "rb-letter", id: board.id(`head-${card}`) }, letter);
  const text = fillAnswer(
    h("div", { class: "rb-text", id: board.id(`text-${card}`), dir: "auto", dataset: { scroll: card } }),
    board.card.cards[card].text,
  );
  const label = `Response ${letter}, ${card + 1} of ${board.letters.length}, ${spokenRating(board, card, board.flagNames)}`;
  return h(
    "div",
    {
      class: "rb-card rb-rate",
      role: "group",
      tabindex: "0",
      "aria-label": label,
      "aria-describedby": text.id,
      dataset: { key: `card:${card}`, card },
    },
    h("div", { class: "rb-card-head" }, heading),
    text,
    likertRow(board, card),
    flagRow(board, card),
  );
}

function likertRow(board, card) {
  const name = board.id(`likert-${card}`);
  const choices = QUALITY.map((word, i) => {
    const value = i + 1;
    const key = `likert:${card}:${value}`;
    const onchange = () => board.act({ do: "likert", value, card });
    const checked = board.likert[card] === value;
    const input = h("input", {
      type: "radio",
      name,
      value,
      checked,
      onchange,
      dataset: { key },
      "aria-label": `${value}, ${word}`,
    });
    return h("label", { title: `${value}: ${word}` }, input, h("span", { "aria-hidden": "true" }, String(value)));
  });
  const legend = h("span", { class: "rb-small", "aria-hidden": "true" }, "Quality");
  const scale = h(
    "div",
    { class: "rb-likert", role: "radiogroup", "aria-label": `Overall quality of response ${board.letters[card]}` },
    choices,
  );
  const value = board.likert[card];
  const word = h("span", { class: "rb-word", "aria-hidden": "true" }, value === null ? "" : QUALITY[value - 1]);
  return h("div", { class: "rb-likert-row" }, legend, scale, word);
}

function flagRow(board, card) {
  const on = board.flags[card];
  const chips = board.view.flags.map((flag, i) => {
    const pressed = on.includes(flag.id);
    const stop = pressed ? on[0] === flag.id : !on.length && i === 0;
    return h(
      "button",
      {
        type: "button",
        class: `rb-chip rb-${flag.tone}`,
        title: `${flag.full} (key ${flag.key})`,
        "aria-pressed": String(pressed),
        tabindex: stop ? "0" : "-1",
        dataset: { key: `flag:${card}:${flag.id}` },
        "aria-label": flag.full,
        onclick: () => board.act({ do: "flag", value: flag.id, card }),
        onkeydown: roving,
      },
      flag.short,
      h("kbd", { "aria-hidden": "true" }, flag.key),
    );
  });
  return h(
    "div",
    { class: "rb-flags", role: "toolbar", "aria-label": `Flags of response ${board.letters[card]}` },
    chips,
  );
}

/** Arrow keys walk along a row of chips; only one of them is a tab stop. */
function roving(event) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step) return;
  const chips = [...event.currentTarget.parentElement.children];
  const next = chips[(chips.indexOf(event.currentTarget) + step + chips.length) % chips.length];
  chips.forEach((chip) => chip.setAttribute("tabindex", chip === next ? "0" : "-1"));
  next.focus();
  event.preventDefault();
  event.stopPropagation();
}

/** The ranks and the tray: one rearrangeable listbox whose groups are the ranks. */
export function rankField(board) {
  const count = board.letters.length;
  const lanes = Array.from({ length: count }, (_, i) => lane(board, i + 1, count));
  const waiting = indices(board.slots, null);
  return h(
    "div",
    {
      class: waiting.length ? "rb-field" : "rb-field rb-all-ranked",
      role: "listbox",
      "aria-label": "Responses, best rank first",
      "aria-describedby": board.id("prompt"),
    },
    h("div", { class: "rb-lanes", role: "presentation" }, lanes),
    tray(board, waiting),
  );
}

function lane(board, rank, count) {
  const here = indices(board.slots, rank);
  const end = rank === 1 ? "best" : rank === count ? "worst" : "";
  const gutter = h(
    "div",
    { class: "rb-gutter", "aria-hidden": "true" },
    h("b", {}, String(rank)),
    end ? h("span", {}, end) : null,
  );
  const cards = here.flatMap((card, i) => [
    i ? h("span", { class: "rb-equals", "aria-hidden": "true", title: "tied" }, "=") : null,
    rankCard(board, card),
  ]);
  const hint = here.length ? null : h("span", { class: "rb-hint", "aria-hidden": "true" }, "");
  const group = here.length
    ? { role: "group", "aria-label": `Rank ${rank}${end ? ` (${end})` : ""}` }
    : { role: "presentation" };
  return h(
    "div",
    {
      class: here.length ? "rb-lane" : "rb-lane rb-empty",
      dataset: { drop: `rank:${rank}` },
      ...group,
      onclick: (event) => event.target.closest("[data-card]") || board.act({ do: "offer", value: rank }),
    },
    h("div", { class: "rb-gap", role: "presentation", dataset: { drop: `insert:${rank}` } }),
    gutter,
    h("div", { class: "rb-cards", role: "presentation" }, cards, hint),
  );
}

function tray(board, waiting) {
  const group = waiting.length ? { role: "group", "aria-label": "Unranked" } : { role: "presentation" };
  const title = waiting.length
    ? `Unranked (${waiting.length})`
    : "Every response is ranked. Drop one here to take its rank away.";
  return h(
    "div",
    { class: waiting.length ? "rb-tray" : "rb-tray rb-empty", dataset: { drop: "tray" }, ...group },
    h("div", { class: "rb-tray-title", "aria-hidden": "true" }, title),
    waiting.map((card) => rankCard(board, card)),
  );
}

function rankCard(board, card) {
  const letter = board.letters[card];
  const order = readingOrder(board.slots);
  const text = fillAnswer(h("div", { class: "rb-words", dir: "auto" }), board.card.cards[card].text); // the card itself scrolls
  text.id = board.id(`text-${card}`);
  const rated = board.view.modes.includes("rate") ? `, ${spokenRating(board, card, board.flagNames)}` : "";
  return h(
    "div",
    {
      class: board.chosen === card ? "rb-card rb-move rb-chosen" : "rb-card rb-move",
      role: "option",
      tabindex: "0",
      "aria-selected": String(board.chosen === card),
      dataset: { key: `card:${card}`, card, scroll: card },
      "aria-posinset": order.indexOf(card) + 1,
      "aria-setsize": order.length,
      "aria-label": `Response ${standing(board.slots, card, board.letters)}${rated}`,
      "aria-describedby": text.id,
      onpointerdown: (event) => board.grab(event, card),
    },
    h(
      "div",
      { class: "rb-card-head rb-grip" },
      h("span", { class: "rb-letter" }, letter),
      qualityBadge(board, card),
      flagBadges(board, card),
    ),
    text,
  );
}

function qualityBadge(board, card) {
  if (!board.view.modes.includes("rate")) return null;
  const value = board.likert[card];
  const shown = value === null ? "not rated" : `${value}/7`;
  return h("span", { class: value === null ? "rb-quality rb-none" : "rb-quality", "aria-hidden": "true" }, shown);
}

function flagBadges(board, card) {
  const raised = board.view.flags.filter((flag) => board.flags[card].includes(flag.id));
  return raised.map((flag) => h("span", { class: `rb-badge rb-${flag.tone}`, "aria-hidden": "true" }, flag.short));
}

/** The keys that matter while rating, where the ranking has its bar. */
export function rateHint(board) {
  const key = (name) => h("kbd", {}, name);
  const next = board.view.modes.length > 1 ? " ranking" : " submit";
  return h(
    "div",
    { class: "rb-small rb-keys", "aria-hidden": "true" },
    key("1"),
    "–",
    key("7"),
    " quality  ",
    key("a"),
    "–",
    key("x"),
    " flags  ",
    key("→"),
    " next  ",
    key("Enter"),
    next,
  );
}

/** Buttons that do to the chosen card what dragging does, for whoever cannot drag. */
export function moveBar(board) {
  const card = board.chosen;
  const letter = card === null ? null : board.letters[card];
  const off = card === null;
  const button = (label, spoken, event, pressed = null) =>
    h(
      "button",
      {
        type: "button",
        class: "rb-step",
        disabled: off,
        "aria-label": off ? spoken : `Move ${letter} ${spoken}`,
        "aria-pressed": pressed,
        dataset: { key: `move:${label}` },
        onclick: () => board.act({ ...event, card, keep: true }),
      },
      label,
    );
  const ranks = board.letters.map((_, i) =>
    button(
      String(i + 1),
      `to rank ${i + 1}`,
      { do: "rank", value: i + 1 },
      off ? null : String(board.slots[card] === i + 1),
    ),
  );
  return h(
    "div",
    { class: "rb-movebar", role: "toolbar", "aria-label": "Move the chosen response" },
    h(
      "span",
      { class: "rb-small" },
      off ? "Choose a response, then its rank:" : h("span", {}, h("b", {}, letter), " to rank"),
    ),
    h("span", { class: "rb-steps" }, ranks, button("tray", "to the unranked tray", { do: "rank", value: null })),
    board.view.modes.includes("rate") &&
      board.slots.every((slot) => slot === null) &&
      board.likert.some((v) => v !== null)
      ? h(
          "button",
          { type: "button", class: "rb-link", dataset: { key: "order" }, onclick: () => board.act({ do: "order" }) },
          "Start from my ratings (o)",
        )
      : null,
  );
}
