/**
 * The knob panel as DOM, shared by KnobPanel and Cockpit. `ask` is called with {kind: "turn", changes, why} or
 * {kind: "auto", on, why}; `update(state)` shows what became of it; `note()` gives the Why to whatever else is done.
 * A knob under somebody's finger is left alone.
 */
import { h } from "./dom.mjs";
import { POSITIONS, fate, position, typed, valueAt, write } from "./knobs.mjs";

const QUIET = 400; // ms without another movement before a slider asks
const NOTE_STAYS = 8000; // ms that a note stays for the next movement of the same hand

export function knobPanel(knobs, ask) {
  const why = h("input", { type: "text", class: "lkk-why", maxlength: 500, placeholder: "Why? (kept in the ledger)", "aria-label": "Why: a note kept in the ledger with the next change or rollback" });
  let fading = 0;
  const fade = () => {
    if (document.activeElement !== why) why.value = "";
  };
  const note = () => {
    clearTimeout(fading);
    fading = setTimeout(fade, NOTE_STAYS);
    return why.value.trim();
  };
  const send = (message) => ask({ ...message, why: note() });
  why.addEventListener("input", () => clearTimeout(fading));
  const auto = autoSwitch(send);
  const rows = new Map(knobs.map((knob) => [knob.name, knobRow(knob, send)]));
  const beta = rows.get("kl_coef");
  const root = h(
    "section",
    { class: "lkk", role: "group", "aria-label": "Knobs" },
    h("div", { class: "lkk-head" }, h("strong", {}, "Knobs"), h("span", { class: "lkk-hint" }, "applied at the next step")),
    why,
    [...rows].flatMap(([name, row]) => (name === "kl_coef" ? [row.root, auto.root] : [row.root])),
  );
  const update = (state) => {
    if (!state) return;
    for (const [name, row] of rows) if (state.rows[name]) row.update(state.rows[name]);
    auto.update(state.auto);
    beta?.hold(Boolean(state.auto?.on));
  };
  return { root, update, note };
}

function knobRow(knob, send) {
  const label = knob.symbol ? `${knob.symbol} ${knob.name}` : knob.name;
  const slider = h("input", { type: "range", min: 0, max: POSITIONS, step: 1, "aria-label": `${label}. ${knob.doc}`, title: knob.doc });
  const box = h("input", { type: "text", inputmode: "decimal", class: "lkk-number", "aria-label": `${label}, as a number from ${write(knob.low)} to ${write(knob.high)}`, title: `from ${write(knob.low)} to ${write(knob.high)}` });
  const line = h("div", { class: "lkk-fate", "aria-live": "polite" });
  const root = h(
    "div",
    { class: "lkk-row", dataset: { knob: knob.name } },
    h("div", { class: "lkk-name", title: knob.doc }, knob.symbol ? h("span", { class: "lkk-symbol" }, knob.symbol) : null, knob.name),
    slider,
    box,
    line,
  );
  let timer = 0;
  let editing = false; // somebody typed into the box and neither asked for it nor left the box
  let shown = knob.start; // what the box says while nobody types: the value, or what was asked and waits
  let before = ""; // what it said when typing began
  const show = (v) => {
    slider.value = position(knob, v);
    slider.setAttribute("aria-valuetext", write(v));
    slider.style.setProperty("--at", `${slider.value / 10}%`);
  };
  const request = (asked) => {
    clearTimeout(timer);
    timer = 0;
    editing = false;
    if (asked === null) restore();
    else send({ kind: "turn", changes: { [knob.name]: asked } });
  };
  const restore = () => {
    editing = false;
    show(shown);
    box.value = write(shown);
  };
  slider.addEventListener("input", () => {
    const asked = valueAt(knob, Number(slider.value));
    shown = asked;
    box.value = write(asked);
    slider.setAttribute("aria-valuetext", write(asked));
    slider.style.setProperty("--at", `${slider.value / 10}%`);
    clearTimeout(timer);
    timer = setTimeout(() => request(asked), QUIET);
  });
  box.addEventListener("input", () => {
    if (!editing) before = write(shown);
    editing = true;
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter") request(typed(box.value));
    if (event.key !== "Escape" || !editing) return;
    event.preventDefault(); // the next one leaves the board
    restore();
  });
  box.addEventListener("blur", () => {
    if (!editing) return;
    const asked = typed(box.value);
    if (asked === typed(before)) restore(); // as it was when typing began, whatever the knob became meanwhile: no wish
    else request(asked);
  });
  const update = (row) => {
    const told = fate(row);
    line.setAttribute("aria-live", row.last?.by === "controller" ? "off" : "polite"); // the controller turns β at every step
    if (line.dataset.told !== told.text) line.replaceChildren(...(told.text ? [h("span", { class: "lk-spoken" }, `${knob.name}: `), told.text] : []));
    line.dataset.told = told.text;
    line.dataset.tone = told.tone;
    if (!timer) shown = row.waiting ?? row.value;
    if (timer || editing) return;
    show(shown);
    box.value = write(shown);
  };
  const hold = (held) => {
    root.classList.toggle("lkk-held", held);
    slider.disabled = held;
    box.disabled = held;
    if (held && editing) restore(); // a box that is taken away while somebody types never hears that it was left
  };
  restore();
  return { root, update, hold };
}

function autoSwitch(send) {
  const button = h("button", { type: "button", role: "switch", "aria-checked": "false", class: "lkk-switch", title: "Adaptive KL controller (Ziegler et al. 2019): β grows when KL is above its target, shrinks below it" });
  const text = h("span", {});
  const root = h("div", { class: "lkk-auto", hidden: true }, button, text);
  let on = false;
  button.addEventListener("click", () => send({ kind: "auto", on: !on }));
  button.setAttribute("aria-label", "Let the KL controller hold β");
  const update = (auto) => {
    root.hidden = !auto;
    if (!auto) return;
    on = auto.waiting === null || auto.waiting === undefined ? auto.on : Boolean(auto.waiting);
    button.setAttribute("aria-checked", String(on));
    const waits = on !== auto.on ? ", from the next step" : auto.last ? ` since step ${auto.last.step}` : "";
    const words = on ? `KL controller holds β${waits}` : `the hand holds β${waits}`;
    if (text.textContent !== words) text.textContent = words;
  };
  return { root, update };
}
