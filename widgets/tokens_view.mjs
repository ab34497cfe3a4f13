/** One response token by token, as DOM: coloured tokens, a readout, and the plain table behind them. */
import { numbers as written } from "./columns.mjs";
import { h, fillText, reachWhenScrolling } from "./dom.mjs";
import { joins, signed, strengths, tint, tokenText } from "./inspector.mjs";

/**
 * Tokens coloured by one column at a time; the numbers of all columns on hover or focus, and in a table, `numbers`, which
 * wants the whole width of a board: eleven columns beside a list would be seen through a keyhole.
 */
export function tokenPane() {
  const menu = h("select", { class: "lki-menu", "aria-label": "What colours the tokens" });
  const strip = h("div", { class: "lki-strip", role: "group", "aria-label": "Tokens" });
  const scale = h("span", { class: "lki-scale" });
  const readout = h("div", { class: "lki-readout", role: "status" });
  const full = h("div", { class: "lki-scroll lki-full" });
  const whose = h("p", { class: "lki-whose", hidden: true });
  const root = h("div", {}, h("h4", {}, "Token by token ", menu, scale), whose, strip, readout);
  const numbers = h("details", { class: "lki-numbers", ontoggle: () => reach() }, h("summary", {}, "All numbers of these tokens as a table"), full);
  const reach = () => reachWhenScrolling(full, "All numbers of all tokens");
  let view = null;
  const wanted = ["advantage", "KL (k1)", "change of reward"];

  const paint = () => {
    const values = view.columns[menu.value];
    const strong = strengths(values);
    const most = values.reduce((m, v) => Math.max(m, Math.abs(v) || 0), 0);
    scale.replaceChildren(h("i", { class: "lki-low" }), `−${Number(most.toPrecision(2))}`, h("i", { class: "lki-high" }), `+${Number(most.toPrecision(2))}`);
    [...strip.children].forEach((token, i) => {
      token.style.background = tint(strong[i]);
      token.setAttribute("aria-label", `${view.tokens[i]}: ${menu.value} ${signed(values[i])}`);
    });
  };
  const read = (i) => {
    const numbers = Object.entries(view.columns).map(([name, values]) => `${name} ${signed(values[i])}`);
    fillText(readout, `token ${i + 1} “${tokenText(view.tokens[i])}”: ${numbers.join(" · ")}`);
  };
  const show = (seen, row) => {
    if (!seen.tokens || seen.row !== row.row) return;
    view = seen;
    whose.textContent = seen.note;
    whose.hidden = !seen.note;
    const names = Object.keys(view.columns);
    const kept = names.includes(menu.value) ? menu.value : wanted.find((n) => names.includes(n)) ?? names[0];
    menu.replaceChildren(...names.map((n) => h("option", { value: n }, n)));
    menu.value = kept;
    strip.replaceChildren(
      ...view.tokens.map((text, i) => fillText(h("span", { role: "img", class: joins(text, view.tokens[i - 1]) ? "lki-token lki-joined" : "lki-token", tabindex: i ? -1 : 0, dataset: { at: i }, onpointerenter: () => read(i), onfocus: () => read(i) }), tokenText(text) || "␀")),
    );
    paint();
    readout.textContent = "Hover a token, or move over them with the arrow keys.";
    full.replaceChildren(tokenTable(view));
    reach();
  };
  strip.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move || event.target.dataset.at === undefined) return;
    event.preventDefault();
    const next = strip.children[Number(event.target.dataset.at) + move];
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  menu.addEventListener("change", () => view && paint());
  const clear = (waits) => {
    strip.replaceChildren();
    whose.hidden = true;
    full.replaceChildren();
    readout.textContent = waits ? "Asking the models …" : "";
  };
  const failed = () => {
    if (!strip.children.length) readout.textContent = "No answer: the line at the top of the board says why.";
  };
  return { root, numbers, show, clear, failed };
}

function tokenTable(view) {
  const names = Object.keys(view.columns);
  const write = Object.fromEntries(names.map((n) => [n, written(view.columns[n]) ?? String]));
  const lines = view.tokens.map((text, i) =>
    h("tr", {}, h("th", { scope: "row" }, h("span", { class: "lki-place" }, String(i + 1)), fillText(h("span", { class: "lki-code" }), tokenText(text))), names.map((n) => h("td", { class: "lki-num" }, view.columns[n][i] === null ? "–" : write[n](view.columns[n][i])))),
  );
  return h("table", {}, h("thead", {}, h("tr", {}, ["token", ...names].map((n, i) => h("th", { scope: "col", class: i > 0 && "lki-num" }, n)))), h("tbody", {}, lines));
}
