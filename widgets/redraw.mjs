/**
 * What must survive when a board is drawn anew: focus, selection in a text field, scroll positions; and cards that glide.
 * Elements are known by data-key (focus), data-scroll (scroll boxes) and data-card (cards).
 */
import { reachWhenScrolling } from "./dom.mjs";

/** Where focus, scroll positions and movable cards are now. */
export function remember(root) {
  const active = root.contains(document.activeElement) ? document.activeElement : null;
  const scrolls = [...root.querySelectorAll("[data-scroll]")].map((box) => [box.dataset.scroll, box.scrollTop]);
  const places = [...root.querySelectorAll(".rb-move")].map((node) => [
    node.dataset.card,
    node.getBoundingClientRect(),
  ]);
  const typed = active?.matches("input[type=text]") ? [active.value, active.selectionStart, active.selectionEnd] : null;
  return { key: active?.dataset.key ?? null, had: Boolean(active), scrolls, places, typed };
}

/** Bring it back. `wanted` is a key to be focused whatever was; `fallbacks` are tried where the old focus is gone. */
export function recall(root, { key, had, scrolls, places, typed }, wanted, fallbacks) {
  for (const [name, top] of scrolls) {
    const box = top && root.querySelector(`[data-scroll="${CSS.escape(name)}"]`);
    if (box) box.scrollTop = top;
  }
  if (had || wanted) {
    const find = (name) => name && root.querySelector(`[data-key="${CSS.escape(name)}"]:not([disabled])`);
    const node = [wanted, key, ...fallbacks].map(find).find(Boolean);
    node?.focus({ preventScroll: true });
    if (wanted) (node?.closest(".rb-panel") ?? node)?.scrollIntoView({ block: "nearest" });
    if (typed && node?.dataset.key === key && node.matches("input[type=text]")) {
      node.value = typed[0];
      node.setSelectionRange(typed[1], typed[2]);
    }
  }
  glide(root, places);
}

/** Make every scrolling text a tab stop, and only those. */
export function markScrolling(root, letters) {
  root
    .querySelectorAll(".rb-move")
    .forEach((card) => card.classList.toggle("rb-scrolls", card.scrollHeight > card.clientHeight + 1));
  root.querySelectorAll(".rb-text, .rb-log").forEach((box) => {
    const card = box.closest("[data-card]")?.dataset.card;
    reachWhenScrolling(box, card === undefined ? "Text" : `Text of response ${letters[card]}`);
  });
}

/** Let moved cards glide from where they were, unless the person asked for less motion. */
function glide(root, places) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const [card, old] of places) {
    const node = root.querySelector(`.rb-move[data-card="${card}"]`);
    const now = node?.getBoundingClientRect();
    if (!now || (Math.abs(now.x - old.x) < 2 && Math.abs(now.y - old.y) < 2)) continue;
    const from = `translate(${old.x - now.x}px, ${old.y - now.y}px)`;
    node.animate([{ transform: from }, { transform: "none" }], { duration: 140, easing: "ease-out" });
  }
}
