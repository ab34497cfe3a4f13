/**
 * The few lines of DOM that the boards share: build elements, show text safely, keep keys out of JupyterLab.
 */
import { segments } from "./visible.mjs";

const FOCUSABLE = new Set(["button", "input", "textarea", "select", "summary", "a"]);

/**
 * Build an element: h("button", {class: "x", onclick: f, "aria-label": "y", dataset: {key: "k"}}, "text", child, …).
 * Strings become text nodes, never markup; null and false children are left out. Whatever can take the focus carries
 * data-lm-suppress-shortcuts, without which JupyterLab would take a typed "d d" for "delete the cell".
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "checked" || name === "value") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  if (FOCUSABLE.has(tag) || "tabindex" in props) element.setAttribute("data-lm-suppress-shortcuts", "true");
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

/** Put text into an element: as text, with hidden characters as chips. */
export function fillText(element, text) {
  element.replaceChildren(
    ...segments(text).map((piece) =>
      piece.hidden
        ? h("span", { class: "lk-hidden", title: piece.name }, piece.code)
        : document.createTextNode(piece.text),
    ),
  );
  return element;
}

/** A model's answer, as `fillText` shows it; where it has nothing to read, the board says so in its own words. */
export function fillAnswer(element, text) {
  fillText(element, text);
  if (!text.trim()) element.append(h("em", { class: "lk-blank" }, "empty answer"));
  return element;
}

/** Make a scrolling box reachable by keyboard exactly while it scrolls, down or sideways. */
export function reachWhenScrolling(box, label) {
  const scrolls = box.scrollHeight > box.clientHeight + 1 || box.scrollWidth > box.clientWidth + 1;
  if (!scrolls) {
    for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
    return;
  }
  box.setAttribute("tabindex", "0");
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", label);
  box.setAttribute("data-lm-suppress-shortcuts", "true");
}

/**
 * Plain keys end here: what is typed in a board edits no notebook. Tab goes on, and so do Ctrl, Alt and Meta
 * combinations; Escape hands the focus back to the notebook's cell. Returns the undoing function.
 */
export function keepKeys(root) {
  const stop = (event) => {
    if (event.key === "Tab" || event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopPropagation();
    if (event.type === "keydown" && event.key === "Escape" && !event.defaultPrevented) leave(root);
  };
  for (const type of ["keydown", "keyup", "keypress"]) root.addEventListener(type, stop);
  return () => ["keydown", "keyup", "keypress"].forEach((type) => root.removeEventListener(type, stop));
}

function leave(root) {
  document.activeElement?.blur?.();
  root.closest(".jp-Cell")?.focus?.();
}

/** A name for one view of a board: several pages may show the same one, and each wants the answers to its own questions. */
export const ownName = () => Math.random().toString(36).slice(2, 12);

/**
 * How a board speaks to Python: every message carries the name of the view that sent it, `ask.client`. Where the channel is
 * gone, as after a restart of the kernel, it says so above the board.
 */
export function speaker(model, el) {
  const client = ownName();
  let told = null;
  const ask = (message) => {
    try {
      model.send({ ...message, client });
    } catch {
      told ??= h("div", { class: "lk lk-gone", role: "alert" }, "The kernel behind this board is gone, so nothing was sent. Run its cell again.");
      el.prepend(told);
      return;
    }
    told?.remove();
    told = null;
  };
  return Object.assign(ask, { client });
}
