/**
 * The alerts on the board: one row per rule, which stays where it is while its numbers change. So a click that began is
 * not lost, the keyboard's focus stays in its button, and a screen reader hears an alert once, when it comes.
 */
import { h } from "./dom.mjs";

/** The region of the alerts, and `update(found)`. ask: what a button says to Python; leave: where the focus goes when its row does. */
export function alertList(ask, leave) {
  const rows = new Map();
  const root = h("div", { class: "lkc-alerts", role: "log", "aria-label": "Alerts", "aria-relevant": "additions" });
  const update = (found) => {
    const rules = new Set(found.map((alert) => alert.rule));
    for (const [rule, row] of rows) if (!rules.has(rule)) drop(rows, rule, row, leave);
    for (const alert of found) {
      if (!rows.has(alert.rule)) rows.set(alert.rule, place(root, alert, ask));
      rows.get(alert.rule).show(alert);
    }
  };
  return { root, update };
}

/** A new row; serious ones come before the warnings that are there. A row that stands is never moved: it may hold the focus. */
function place(root, alert, ask) {
  const row = alertRow(ask);
  const warning = alert.level === "serious" ? root.querySelector('[data-level="warning"]') : null;
  row.show(alert);
  root.insertBefore(row.root, warning);
  return row;
}

function drop(rows, rule, row, leave) {
  const had = row.root.contains(document.activeElement);
  row.root.remove();
  rows.delete(rule);
  if (had) ([...rows.values()].map((r) => r.root.querySelector("button:not([hidden])")).find(Boolean) ?? leave())?.focus();
}

/** One alert; its buttons ask for what they say at the moment they are pressed. */
function alertRow(ask) {
  let now = {};
  const sentence = h("strong", {});
  const cause = h("div", {});
  const set = h("button", { type: "button", class: "lkc-button lkc-apply", onclick: () => ask({ kind: "apply", changes: now.suggestion, why: `alert: ${now.sentence}` }) });
  const back = h("button", { type: "button", class: "lkc-button lkc-back", title: "Return to that snapshot: weights, optimisers and knobs", onclick: () => ask({ kind: "rollback", step: now.back, why: `alert: ${now.sentence}` }) });
  const root = h("div", { class: "lkc-alert" }, h("span", { class: "lkc-sign", "aria-hidden": "true" }, "!"), h("div", { class: "lkc-alert-text" }, sentence, cause), set, back);
  const show = (alert) => {
    now = alert;
    Object.assign(root.dataset, { level: alert.level, rule: alert.rule });
    say(sentence, alert.sentence);
    say(cause, alert.cause);
    const offer = Object.entries(alert.suggestion || {});
    set.hidden = !offer.length;
    back.hidden = !Number.isInteger(alert.back);
    say(back, `Go back to step ${alert.back}`);
    say(set, `Set ${offer.map(([knob, value]) => `${knob} = ${Number(value.toPrecision(3))}`).join(", ")}`);
  };
  return { root, show };
}

/** Change a text in place, and only where it differs. */
function say(element, text) {
  if (!element.firstChild) element.append(text);
  else if (element.firstChild.data !== text) element.firstChild.data = text;
}
