import { answered, say, sessionEnded, sitePath, unanswered } from "./connection";
import { morph } from "./fleetmorph";

// The list as it is shown: one window of rows out of all that match, between two spacers that are as high as the others
// would be. One request is under way at any time, and of what was asked for meanwhile the newest counts.

/** What the list is to show. */
export interface Wish {
  /** The filters, as in the page's address: "?q=web", or "". */
  search: string;
  /** The place that the window begins at. */
  from: number;
  /** What becomes of the browser's history, if anything. */
  history?: "push" | "replace";
  /** Nobody has asked for it: the list is brought up to date. */
  refresh?: boolean;
}

/** A window has so many times the rows that are in sight, within bounds. */
const ample = 3;
const fewest = 40;
/** While one types there is what the screen shows and no more; so long after the last key comes the rest. */
const breath = 300;

let shown = location.search;
let current: Wish | undefined;
let pending: Wish | undefined;
let stop: AbortController | undefined;
let loadedAt = Date.now();
let skew = 0;
/** The rows are not in the order that the server has them in. */
let held = false;
let byTouch = false;
const watchers: (() => void)[] = [];

export const containers = (): HTMLElement | null => document.getElementById("containers");
const number = (name: string): number => Number(containers()?.dataset[name] ?? 0);

/** Calls back whenever the list shows something else. */
export function onShown(callback: () => void): void {
  watchers.push(callback);
}

/** The filters of what is shown, or will be once the answers have come. */
export function search(): string {
  return pending?.search ?? current?.search ?? shown;
}

/** When the list was fetched last. */
export function fetchedAt(): number {
  return loadedAt;
}

/** The server's clock now. */
export function serverNow(): number {
  return Date.now() - skew;
}

/** Fetches the window that is in sight again. */
export function refresh(): void {
  // What is under way may have been answered before the change.
  if (!pending) load({ search: search(), from: current?.from ?? number("from"), refresh: true });
}

/** Shows something, now or after what is under way. */
export function load(wish: Wish): void {
  if (sessionEnded()) return;
  if (current) {
    pending = wish;
    // Who types or scrolls does not wait for what nobody asked for.
    if (current.refresh && !wish.refresh) stop?.abort();
    return;
  }
  current = wish;
  void run(wish).finally(() => {
    current = undefined;
    const next = pending;
    pending = undefined;
    if (next) load(next);
    else if (wish.history === "replace") setTimeout(scrolled, breath);
    else scrolled();
  });
}

async function run(wish: Wish): Promise<void> {
  loadedAt = Date.now();
  const address = new URLSearchParams(wish.search);
  if (wish.from > 0) address.set("from", String(wish.from));
  address.set("rows", String(wish.history === "replace" ? inSight() : windowRows()));
  let response: Response;
  let text: string;
  stop = new AbortController();
  const { signal } = stop;
  try {
    response = await fetch(`${sitePath("/")}?${address}`, { headers: { "HX-Request": "true" }, cache: "no-store", signal });
    if (!answered(response)) return;
    text = await response.text();
  } catch {
    if (!signal.aborted) unanswered();
    return;
  }
  const next = new DOMParser().parseFromString(text, "text/html").getElementById("containers");
  if (!response.ok || !next) {
    // An error page holds no list: keep what is shown and say so.
    say(`The list could not be updated (status ${response.status}). Trying again.`);
    return;
  }
  // Somebody has gone on meanwhile: this is worth showing, but it is no place to come back to.
  if (pending?.history === "replace" && wish.history === "push") pending.history = "push";
  show(next, wish, !pending || pending.search === wish.search);
}

function show(next: HTMLElement, wish: Wish, newest: boolean): void {
  const list = containers();
  if (!list) return;
  const other = wish.search !== shown;
  const focused = document.activeElement;
  const inside = list.contains(focused);
  const busy = !other && wish.from === number("from") && (inside || document.querySelector("#rows:hover") !== null);
  const before = busy ? rowsTop() : 0;
  held = busy && wish.refresh === true && inUse() && hold(next);
  morph(list, next);
  skew = Date.now() - Number(next.dataset.now ?? Date.now());
  if (newest) settle(list);
  shown = wish.search;
  place();
  if (other && wish.from === 0) toTop();
  // What appears above the rows must not push another one below the pointer that is about to click.
  else if (busy && rowsTop() !== before) scrollBy({ top: rowsTop() - before, behavior: "instant" });
  if (inside && focused instanceof HTMLElement && document.activeElement !== focused) {
    // It was moved, which takes the focus away, or it is out of the window: reading goes on at the list.
    (focused.isConnected ? focused : document.getElementById("list"))?.focus({ preventScroll: true });
  }
  if (newest && wish.history && wish.search !== location.search) {
    history[wish.history === "push" ? "pushState" : "replaceState"](null, "", sitePath("/") + wish.search);
  }
  for (const callback of watchers) callback();
}

/**
 * Has the rows of an answer stay in the places that they have on the page, and tells whether that is another order than the
 * answer's: under who is about to use one of them, figures that change must not move another one. What is new takes the places
 * that have become free.
 */
function hold(next: HTMLElement): boolean {
  const body = next.querySelector("#rows");
  if (!body) return false;
  const wanted = [...body.children];
  const shownIds = [...document.querySelectorAll("#rows > tr")].map((row) => row.id);
  const kept = new Map(wanted.filter((row) => shownIds.includes(row.id)).map((row) => [row.id, row]));
  const added = wanted.filter((row) => !kept.has(row.id));
  const rows = shownIds.flatMap((id) => kept.get(id) ?? added.shift() ?? []).concat(added);
  const places = wanted.map((row) => row.ariaRowIndex);
  rows.forEach((row, at) => {
    row.ariaRowIndex = places[at] ?? null;
  });
  body.replaceChildren(...rows);
  return rows.some((row, at) => row !== wanted[at]);
}

/** Puts the rows in order again once nobody is about to use one. */
function release(): void {
  if (held && !inUse()) refresh();
}

/** Whether somebody has the pointer or the keyboard's focus on a row. A finger is gone, whatever the browser still calls hovered. */
const inUse = (): boolean =>
  document.querySelector("#rows :focus-visible") !== null || (!byTouch && document.querySelector("#rows:hover") !== null);

const rowsTop = (): number => document.getElementById("rows-before")?.parentElement?.getBoundingClientRect().top ?? 0;

/** Has the controls of the filters show what the answer says: attributes alone don't move them once they were used. */
function settle(list: HTMLElement): void {
  for (const select of list.querySelectorAll("select")) {
    const chosen = select.querySelector<HTMLOptionElement>("option[selected]")?.value ?? "";
    if (select.value !== chosen) select.value = chosen;
  }
  for (const box of list.querySelectorAll<HTMLInputElement>("input[form=search][type=checkbox]")) box.checked = box.defaultChecked;
}

/** The rows that are there, and how they lie: how many side by side, and how far one is below the other. */
function grid(): { rows: HTMLElement[]; columns: number; pitch: number } | undefined {
  const body = document.getElementById("rows");
  const rows = body ? [...body.querySelectorAll<HTMLElement>(":scope > tr")] : [];
  if (!body || !rows[0]) return undefined;
  const style = getComputedStyle(body);
  const columns = style.display === "grid" ? style.gridTemplateColumns.split(" ").length : 1;
  const gap = style.display === "grid" ? parseFloat(style.rowGap) || 0 : 0;
  return { rows, columns, pitch: rows[0].getBoundingClientRect().height + gap };
}

/** How many rows the screen shows at most. */
function inSight(now = grid()): number {
  return now ? now.columns * (Math.ceil(innerHeight / now.pitch) + 1) : fewest;
}

/** How many rows to ask for. The server has an upper bound of its own. */
function windowRows(now = grid()): number {
  return Math.max(fewest, ample * inSight(now));
}

/** Gives the spacers the height of the rows that they stand for. */
export function place(): void {
  const now = grid();
  for (const id of ["rows-before", "rows-behind"]) {
    const spacer = document.getElementById(id);
    const cell = spacer?.querySelector("td");
    if (!spacer || !cell) continue;
    const lines = Math.ceil(Number(spacer.dataset.rows) / (now?.columns ?? 1));
    // Browsers can't lay out more than some thirty million pixels.
    const height = `${Math.min(lines * (now?.pitch ?? 0), 15_000_000)}px`;
    if (cell.style.height !== height) cell.style.height = height;
    spacer.hidden = lines === 0;
  }
}

/** Fetches the window around what is in sight, if that is not there. */
export function scrolled(): void {
  const now = grid();
  const body = document.getElementById("rows");
  if (!now || !body || current) return;
  const from = number("from");
  const matches = number("matches");
  const top = body.getBoundingClientRect().top;
  const lines = (pixels: number): number => Math.floor(pixels / now.pitch) * now.columns;
  const first = Math.max(0, from + lines(-top));
  const last = Math.min(matches, from + lines(innerHeight - top) + now.columns);
  const end = from + now.rows.length;
  const size = windowRows(now);
  const margin = Math.floor((size - (last - first)) / 4);
  const missing = (first - margin < from && from > 0) || (last + margin > end && end < matches);
  if (!missing || first > matches || last < 0) return;
  const wanted = Math.max(0, Math.floor((first + last - size) / 2));
  const start = wanted - (wanted % now.columns);
  if (start !== from) load({ search: search(), from: start });
}

/** Scrolls to where the list begins, if that is out of sight. */
function toTop(): void {
  const list = containers();
  if (list && list.getBoundingClientRect().top < 0) list.scrollIntoView({ block: "start", behavior: "instant" });
}

export function startList(): void {
  place();
  document.addEventListener(
    "pointerover",
    (event) => {
      byTouch = event.pointerType === "touch";
      release();
    },
    { passive: true },
  );
  document.addEventListener("focusin", release);
  let waiting = false;
  const soon = (): void => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      scrolled();
    });
  };
  document.addEventListener("scroll", soon, { passive: true });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) place();
    width = innerWidth;
    soon();
  });
  void document.fonts.ready.then(place);
}
