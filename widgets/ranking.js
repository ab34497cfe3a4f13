/**
 * The ranking board's view: holds what is on the screen, draws it, and sends what a person does to Python.
 *
 * A move shows at once and is sent as the whole draft of the card; Python checks it, puts it on the disk and answers with
 * the number of the message, by page, so that neither an older answer nor one to another tab ever overwrites a newer move. Where a card lies, which text is
 * expanded and where the focus is stay here; meaning is Python's. The board survives redraws: focus and scroll return.
 */
import { h, keepKeys, ownName } from "./dom.mjs";
import { command, difference, groupsOf, slotsOf } from "./ranking.mjs";
import { moveBar, rankField, rateGrid, rateHint } from "./ranking_cards.mjs";
import { cardCommands, commands, looking, repeatable, travelling } from "./ranking_commands.mjs";
import { startDrag } from "./ranking_drag.mjs";
import { foot, header, partTabs, promptPane, reasonPanel } from "./ranking_frame.mjs";
import { echo, finished, help, history, jobs, notice } from "./ranking_reports.mjs";
import { halfTyped, keepTyped, typedOn } from "./ranking_hand.mjs";
import { mentionComing, mentionProgress, mentionWarnings, nextCard, spokenLog } from "./ranking_spoken.mjs";
import { markScrolling, recall, remember } from "./redraw.mjs";

const PATIENCE = 4000; // ms without an answer before the board says so and takes no more moves
const SILENT =
  "The kernel does not answer: nothing is stored until it does, and no move is taken. " +
  "If it is busy, wait; if it is gone, run the cell again.";
const PARTS = ["head", "help", "echo", "prompt", "bar", "main", "foot", "message", "rest"]; // top to bottom
const ANYTIME = ["undo", "redo", "help"]; // commands that need no card on the screen

class Board {
  constructor(model, el) {
    this.model = model;
    this.news = new Set(); // traits that have changed since they were taken in
    this.client = ownName();
    this.seq = 0;
    this.turn = null;
    Object.assign(this, { chosen: null, panel: null, confirm: "", historyOpen: false, own: "" });
    [this.knownWarnings, this.told, this.log, this.coming, this.deafUntil] = [[], new Map(), spokenLog(), 0, 0];
    this.root = h("section", { class: "lk rb", "aria-label": "Ranking board" });
    this.live = h("div", { class: "lk-spoken", "aria-live": "assertive", "aria-atomic": "true" });
    this.parts = Object.fromEntries(PARTS.map((name) => [name, h("div", { class: `rb-part rb-part-${name}` })]));
    this.root.append(...Object.values(this.parts), this.live, this.log);
    el.append(this.root);
    this.undo = [
      listen(this.root, "keydown", (event) => this.onKey(event)),
      keepKeys(this.root),
      listen(this.root, "focusin", (event) => this.onFocus(event)),
      listen(this.root, "pointerdown", () => (this.pressed = true), true),
      ...["pointerup", "pointercancel"].map((type) => listen(window, type, () => this.release(), true)),
    ];
    for (const name of ["change:view", "change:card", "change:jobs"]) {
      const adopt = () => this.adoptSoon(name);
      model.on(name, adopt);
      this.undo.push(() => model.off(name, adopt));
    }
    const sizes = new ResizeObserver(() => markScrolling(this.root, this.letters));
    sizes.observe(this.root);
    this.undo.push(() => sizes.disconnect());
    this.adopt();
    this.send({ do: "hello" });
  }

  dispose() {
    clearTimeout(this.waiting);
    this.undo.forEach((call) => call());
    this.root.remove();
  }

  id(name) {
    return `rb-${this.client}-${name}`; // this module may be loaded once per board, so a count would not do
  }

  // -- state from Python --------------------------------------------------------------------------------------------

  /** Several traits of one message come as several events: take them in together. */
  adoptSoon(name) {
    this.news.add(name);
    if (this.news.size > 1 || this.soon) return;
    this.soon = true;
    queueMicrotask(() => {
      const jobsAlone = this.news.size === 1 && this.news.has("change:jobs");
      this.soon = false;
      this.news.clear();
      jobsAlone ? this.showJobs() : this.adopt();
    });
  }

  /** A line that a job reports takes no card, no text field and no focus from under a person. */
  showJobs() {
    this.jobs = this.model.get("jobs");
    mentionProgress(this, false);
    if (this.pressed) return this.draw();
    const kept = this.parts.rest.contains(document.activeElement) ? remember(this.root) : null;
    this.parts.rest.replaceChildren(...[jobs(this), history(this)].filter(Boolean));
    markScrolling(this.root, this.letters);
    if (kept) recall(this.root, kept, null, ["undo"]);
  }

  adopt() {
    const before = this.turn === null ? null : { slots: this.slots, likert: this.likert, flags: this.flags };
    [this.card, this.view, this.jobs] = ["card", "view", "jobs"].map((name) => this.model.get(name));
    this.letters = this.card.cards.map((card) => card.label);
    this.flagNames = Object.fromEntries(this.view.flags.map((flag) => [flag.id, flag.full]));
    this.flagKeys = Object.fromEntries(this.view.flags.map((flag) => [flag.key, flag.id]));
    const fresh = this.turn !== this.card.turn;
    const seq = this.view.acks[this.client] ?? 0;
    const answered = seq >= this.seq; // nothing of this page is under way, whatever other tabs do
    const refused = this.view.refused && this.view.by === this.client;
    if (answered) this.deciding = false;
    if (answered && (this.waiting || this.locked)) this.settled(refused);
    else if (!answered && seq !== this.acknowledged) this.patience(true); // slow, but alive
    this.acknowledged = seq;
    const lost = fresh && this.turn !== null ? halfTyped(this) : null;
    if (fresh) this.noting = false;
    if (fresh || (answered && !refused)) this.takeDraft(); // what could not be stored stays on the screen
    if (fresh) this.newCard(lost);
    else if (before && answered && this.awaitsUndo) this.showUndone(before);
    const go = fresh && this.letters.length && (this.hadFocus || this.root.contains(document.activeElement));
    if (go) [this.focusAfterDraw, this.comeUp] = ["card:0", true];
    mentionWarnings(this, fresh);
    mentionProgress(this, before === null);
    mentionComing(this);
    this.draw({ prompt: fresh });
    if (this.error()) this.say(this.error());
    if (fresh) this.hadFocus = false;
  }

  takeDraft() {
    const draft = this.view.draft ?? { groups: [], likert: [], flags: [], comment: "" };
    Object.assign(this, {
      slots: slotsOf(draft.groups, this.letters.length),
      likert: [...draft.likert],
      flags: draft.flags.map((f) => [...f]),
      comment: this.noting ? this.comment : draft.comment, // a note being typed is newer than any draft
    });
  }

  newCard(lost) {
    const first = this.turn === null;
    const kept = lost ? keepTyped(this, lost) : "";
    [this.turn, this.since] = [this.card.turn, performance.now()];
    Object.assign(this, { chosen: null, panel: null, confirm: "", own: "" });
    const begun =
      this.slots.some((slot) => slot !== null) || (this.likert.length && this.likert.every((v) => v !== null));
    this.part = begun ? this.view.modes.at(-1) : this.view.modes[0];
    this.awaitsUndo = false;
    if (!first) this.say(kept + nextCard(this));
    this.own = kept.trim();
  }

  showUndone(before) {
    this.awaitsUndo = false;
    const change = difference(before, this, this.letters, this.flagNames);
    if (!change) return this.tell(this.view.message);
    if (this.view.modes.includes(change.part)) this.part = change.part;
    this.chosen = change.card;
    this.tell(`${this.view.message.split(":")[0]}: ${change.text}`);
  }

  // -- what a person does -------------------------------------------------------------------------------------------

  /** The one door: `event.do` names a command, `event.card` is the card it is about (else the chosen one). */
  act(event) {
    if (this.locked && !looking.has(event.do)) {
      this.say(SILENT);
      return this.draw(); // a radio button that was pressed goes back
    }
    if (this.deciding && !looking.has(event.do) && !travelling.has(event.do)) return this.draw(); // it was meant for no other card
    const card = event.card ?? this.chosen;
    if (event.do !== "submit") this.confirm = "";
    this.own = "";
    commands[event.do](this, event.value, card, event);
    this.draw();
  }

  // -- keys and pointers --------------------------------------------------------------------------------------------

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    const target = event.target;
    if (typedOn(this)) return event.preventDefault();
    if (event.key === "Escape" && this.panel) {
      event.preventDefault();
      return this.act({ do: "close" });
    }
    if (target.matches("input[type=text], textarea")) return;
    const pressing = target.matches("button, summary, input") && (event.key === "Enter" || event.key === " ");
    if (pressing && event.repeat) return event.preventDefault(); // a key held down presses once
    const choosing = target.matches("input[type=radio]") && event.key.startsWith("Arrow");
    if (pressing || choosing || this.panel === "skip" || this.panel === "cannot_judge") return;
    const card = target.closest("[data-card]")?.dataset.card;
    const found = command(event, this.part, this.letters.length, this.flagKeys);
    if (!found || (card === undefined && cardCommands.has(found.do))) return;
    if (!this.letters.length && !ANYTIME.includes(found.do)) return;
    event.preventDefault();
    if (event.repeat && !repeatable.has(found.do)) return;
    this.act({ ...found, card: card === undefined ? this.chosen : Number(card) });
  }

  onFocus(event) {
    const holder = event.target.closest("[data-card]");
    if (!holder || this.drawing) return;
    const card = Number(holder.dataset.card);
    if (card === this.chosen) return;
    this.chosen = card;
    this.markChosen();
  }

  /** Light the chosen card without a redraw, which would take a press in progress from under the pointer. */
  markChosen() {
    this.root.querySelectorAll(".rb-move").forEach((node) => {
      const on = Number(node.dataset.card) === this.chosen;
      node.classList.toggle("rb-chosen", on);
      node.setAttribute("aria-selected", String(on));
    });
    if (this.part === "rank") this.parts.bar.replaceChildren(...this.bar());
  }

  grab(event, card) {
    const turn = this.turn;
    startDrag(event, card, this.root, {
      lift: () => (this.chosen = card),
      end: () => this.draw(),
      drop: (target) => {
        if (this.turn !== turn) return; // another card came up under the hand
        const [kind, number] = target.split(":");
        this.justDropped = true;
        setTimeout(() => (this.justDropped = false), 0);
        if (kind === "tray") this.act({ do: "rank", value: null, card });
        else if (kind === "card") this.act({ do: "rank", value: this.slots[Number(number)], card });
        else this.act({ do: kind, value: Number(number), card });
      },
    });
  }

  // -- to Python ----------------------------------------------------------------------------------------------------

  draft() {
    return { groups: groupsOf(this.slots), likert: this.likert, flags: this.flags, comment: this.comment };
  }

  note(text) {
    [this.comment, this.noting] = [text, true];
  }

  /** A redraw replaces the field, and with it what would have fired "change": leaving the field stores the note. */
  sendNote() {
    if (this.noting && !this.drawing && !this.locked && !this.deciding) this.sendCard("draft");
  }

  sendCard(kind) {
    this.noting = false;
    const message = { do: kind, turn: this.turn, draft: this.draft() };
    kind === "submit" ? this.decide(message) : this.send(message);
  }

  /** Store a card or put it aside: once, whatever is pressed before the answer comes. */
  decide(message) {
    this.hadFocus = this.deciding = true;
    this.send({ ...message, turn: this.turn });
  }

  send(message) {
    this.seq += 1;
    try {
      this.model.send({ ...message, client: this.client, seq: this.seq });
    } catch {
      this.lock(message.do); // the channel is gone, as after a restart of the kernel
      return;
    }
    this.saved("saving …");
    this.waiting ??= setTimeout(() => this.lock(message.do), PATIENCE); // from the oldest move without an answer on
  }

  /** Moves made on a dead board would be lost unseen: until an answer comes none is taken. */
  lock(sent) {
    this.locked = true;
    this.patience(false);
    this.saved(sent === "hello" ? "no answer" : "not stored", true);
    this.say(SILENT);
    this.draw();
  }

  /** Begin to wait anew, or no longer. */
  patience(more) {
    clearTimeout(this.waiting);
    this.waiting = more ? setTimeout(() => this.lock("draft"), PATIENCE) : null;
  }

  settled(refused) {
    this.patience(false);
    if (this.locked) {
      this.locked = false;
      this.say("The kernel answers again.");
      queueMicrotask(() => this.sendNote()); // a note that was left meanwhile
    }
    this.late = refused;
    this.savedText = refused ? "not stored" : "saved";
  }

  saved(text, late = false) {
    this.savedText = text;
    this.late = late;
    this.showSaved();
  }

  showSaved() {
    const node = this.root.querySelector(".rb-saved");
    if (!node) return;
    node.textContent = this.savedText ?? "";
    node.classList.toggle("rb-late", Boolean(this.late));
  }

  // -- drawing ------------------------------------------------------------------------------------------------------

  draw({ prompt = false } = {}) {
    if (this.pressed) {
      this.due = { prompt: prompt || this.due?.prompt };
      return;
    }
    this.drawing = true;
    this.due = null;
    const kept = remember(this.root);
    const open = this.letters.length > 0;
    const fill = (name, ...nodes) => this.parts[name].replaceChildren(...nodes.filter(Boolean));
    fill("head", header(this));
    fill("echo", echo(this), notice(this));
    if (prompt) fill("prompt", open ? promptPane(this) : null);
    fill("bar", ...(open ? this.bar() : []));
    fill("main", !open ? finished(this) : this.part === "rate" ? rateGrid(this) : rankField(this));
    fill("foot", !open ? null : this.panel && this.panel !== "help" ? reasonPanel(this) : foot(this));
    fill("help", this.panel === "help" ? help(this) : null);
    fill("message", this.message());
    fill("rest", jobs(this), history(this));
    this.root.dataset.part = open ? this.part : "done";
    this.root.classList.toggle("rb-locked", Boolean(this.locked));
    markScrolling(this.root, this.letters);
    recall(this.root, kept, this.focusAfterDraw, [`card:${this.chosen ?? 0}`, "undo"]);
    this.focusAfterDraw = null;
    if (this.comeUp) this.parts.prompt.scrollIntoView({ block: "nearest" });
    this.comeUp = false;
    this.showSaved();
    this.drawing = false;
  }

  /** A redraw under a pressed pointer would take the button from under it: such redraws wait for the release. */
  release() {
    this.pressed = false;
    if (this.due) setTimeout(() => this.due && !this.pressed && this.draw(this.due), 0);
  }

  bar() {
    return [partTabs(this), this.part === "rank" ? moveBar(this) : rateHint(this)].filter(Boolean);
  }

  message() {
    if (this.locked) return h("div", { class: "rb-error" }, SILENT);
    if (this.error()) return h("div", { class: "rb-error", role: "alert" }, this.error());
    const text = this.own || (this.awaitsUndo ? "" : this.view.message);
    return text ? h("div", { class: "rb-info" }, text) : null;
  }

  /** What went wrong with a message of this page, or with nobody's. */
  error() {
    return [this.client, ""].includes(this.view.by) ? this.view.error : "";
  }

  /** A sentence to be shown under the cards, and spoken. */
  tell(text) {
    this.own = text;
    this.say(text);
  }

  say(text) {
    this.live.textContent = "";
    requestAnimationFrame(() => (this.live.textContent = text));
  }
}

function listen(target, type, call, capture = false) {
  target.addEventListener(type, call, capture);
  return () => target.removeEventListener(type, call, capture);
}

function render({ model, el }) {
  const board = new Board(model, el);
  return () => board.dispose();
}

export default { render };
