/**
 * Dragging a card by mouse, pen or finger, with pointer events: a ghost follows the pointer, places light up, the drop
 * is told to the board. A press without a move is a choice of the card, not a drag.
 */
import { h } from "./dom.mjs";

const THRESHOLD = 6; // px before a press becomes a drag
const GHOST_WIDTH = 440; // px
const EDGE = 48; // px from the edge of the scrolling field where it begins to scroll

/** Begin: called on pointerdown. `drop(place)` gets "rank:2", "insert:2", "card:3" or "tray"; `lift()` when a drag begins. */
export function startDrag(event, card, root, { lift, drop, end }) {
  if (event.button !== 0 || onScrollbar(event)) return;
  if (event.pointerType === "touch" && !event.target.closest(".rb-grip")) return; // a finger on the text scrolls it
  const element = event.currentTarget;
  const start = { x: event.clientX, y: event.clientY };
  let ghost = null;
  let place = null;
  let timer = 0;

  const move = (e) => {
    if (!ghost && Math.hypot(e.clientX - start.x, e.clientY - start.y) < THRESHOLD) return;
    if (!ghost) {
      ghost = makeGhost(element, start);
      element.classList.add("rb-lifted");
      root.classList.add("rb-dragging");
      lift(card);
      const boxes = [root.querySelector(".rb-part-main"), scrollParent(root)].filter(Boolean);
      timer = setInterval(() => boxes.forEach((box) => scrollAtEdge(box, ghost.at)), 30);
    }
    e.preventDefault();
    ghost.follow(e);
    place = light(root, placeAt(root, e, card));
    ghost.label.textContent = describe(root, place);
  };
  const finish = (e) => {
    stop();
    if (ghost && e.type === "pointerup" && place) drop(place);
    else if (ghost) end();
  };
  const cancel = (e) => {
    if (e.key !== "Escape" || !ghost) return;
    e.preventDefault();
    e.stopPropagation();
    stop();
    end();
  };
  const stop = () => {
    window.removeEventListener("pointermove", move);
    for (const type of ["pointerup", "pointercancel"]) window.removeEventListener(type, finish);
    window.removeEventListener("keydown", cancel, true);
    clearInterval(timer);
    ghost?.element.remove();
    element.classList.remove("rb-lifted");
    root.classList.remove("rb-dragging");
    light(root, null);
  };
  window.addEventListener("pointermove", move, { passive: false });
  for (const type of ["pointerup", "pointercancel"]) window.addEventListener(type, finish);
  window.addEventListener("keydown", cancel, true);
}

function makeGhost(element, start) {
  const box = element.getBoundingClientRect();
  const copy = element.cloneNode(true);
  for (const node of [copy, ...copy.querySelectorAll("*")]) {
    for (const name of ["id", "role", "tabindex", "aria-describedby"]) node.removeAttribute(name);
  }
  const label = h("span", { class: "rb-ghost-label" });
  const ghost = h("div", { class: "lk rb-ghost", "aria-hidden": "true" }, copy, label);
  const width = Math.min(box.width, GHOST_WIDTH);
  const left = Math.max(box.left, start.x - width + 40); // a wide card shrinks towards the pointer
  Object.assign(ghost.style, { width: `${width}px`, left: `${left}px`, top: `${box.top}px` });
  document.body.append(ghost); // outside the cell, whose containment would trap a fixed element
  const made = { element: ghost, label, at: start, follow: null };
  made.follow = (e) => {
    made.at = { x: e.clientX, y: e.clientY };
    ghost.style.transform = `translate(${e.clientX - start.x}px, ${e.clientY - start.y}px) rotate(0.6deg)`;
  };
  return made;
}

/** The place under the pointer, as its data-drop, with "card:n" for a card to be tied with. */
function placeAt(root, event, card) {
  const under = document.elementFromPoint(event.clientX, event.clientY);
  if (!under || !root.contains(under)) return null;
  const other = under.closest(".rb-lane .rb-move");
  if (other && Number(other.dataset.card) !== card) return `card:${other.dataset.card}`;
  return under.closest("[data-drop]")?.dataset.drop ?? null;
}

/** Mark the place where a drop would go; returns the place. */
function light(root, place) {
  root.querySelectorAll(".rb-over").forEach((node) => node.classList.remove("rb-over"));
  if (!place) return null;
  const [kind, number] = place.split(":");
  const target = kind === "card" ? `.rb-move[data-card="${number}"]` : `[data-drop="${place}"]`;
  root.querySelector(target)?.classList.add("rb-over");
  return place;
}

/** What letting go here would do. */
function describe(root, place) {
  if (!place) return "";
  const [kind, number] = place.split(":");
  if (kind === "tray") return "unranked";
  if (kind === "insert") return `squeeze in at rank ${number}`;
  if (kind === "rank") return `rank ${number}`;
  return `tie with ${root.querySelector(`.rb-move[data-card="${number}"] .rb-letter`).textContent}`;
}

function scrollAtEdge(box, { y }) {
  const { top, bottom } = box.getBoundingClientRect();
  if (y < top + EDGE) box.scrollTop -= 14;
  else if (y > bottom - EDGE) box.scrollTop += 14;
}

/** The notebook's own scrolling box, where the board is taller than the window. */
function scrollParent(node) {
  for (let up = node.parentElement; up; up = up.parentElement) {
    if (up.scrollHeight > up.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(up).overflowY)) return up;
  }
  return null;
}

/** Whether the press was on the scroll bar of a scrolling text, which must go on working. */
function onScrollbar(event) {
  const box = event.target;
  return box.clientWidth > 0 && event.offsetX > box.clientWidth && box.scrollHeight > box.clientHeight;
}
