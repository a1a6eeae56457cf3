import { call } from "./api";
import { containers, onShown, search } from "./fleetlist";
import { note } from "./note";
import { refusals, type Refusals } from "./refused";

// The selection. It outlives the rows: what is out of the window stays selected, and so does what is refreshed.

/** How many containers can be changed in one go; the server says no to more. */
const most = 1000;

/** A container that is selected. */
export interface Picked {
  nodeId: string;
  vmid: number;
  name: string;
  /** Why it can't be changed, by action, as its row said last; what was never in sight is not refused anything. */
  refused?: Refusals;
}

/** By their names for requests: "node/vmid". */
const picked = new Map<string, Picked>();
/** The row that a range begins at. */
let anchor: string | undefined;

const boxes = (): HTMLInputElement[] => [...(containers()?.querySelectorAll<HTMLInputElement>("input[name=ref]") ?? [])];

export function selection(): ReadonlyMap<string, Picked> {
  return picked;
}

export function clearSelection(): void {
  picked.clear();
  show();
}

export function startPick(): void {
  onShown(show);
  document.addEventListener("click", (event) => {
    const box = event.target;
    if (!(box instanceof HTMLInputElement) || box.type !== "checkbox") return;
    if (box.name === "ref") pick(box, event.shiftKey);
    else if (box.id === "pick-all" && box.checked) void pickAll();
    else if (box.id === "pick-all") clearSelection();
  });
  document.addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest("[data-clear-selection]")) clearSelection();
  });
  document.addEventListener("keydown", (event) => {
    const elsewhere = event.target instanceof Element && event.target.closest("#search, dialog, [popover], details");
    if (event.key === "Escape" && !elsewhere) clearSelection();
  });
  // Checkboxes that the browser has kept ticked from before.
  show();
}

/** Selects a row, or with shift all from the one that was chosen before. */
function pick(box: HTMLInputElement, range: boolean): void {
  const all = boxes();
  const from = range ? all.findIndex((other) => other.value === anchor) : -1;
  const to = all.indexOf(box);
  const chosen = from < 0 ? [box] : all.slice(Math.min(from, to), Math.max(from, to) + 1);
  for (const other of chosen) {
    if (box.checked) picked.set(other.value, here(other));
    else picked.delete(other.value);
  }
  anchor = box.value;
  show();
}

/** What a row says of its container. */
function here(box: HTMLInputElement): Picked {
  const [nodeId = "", vmid] = box.value.split("/");
  const row = box.closest("tr");
  return { nodeId, vmid: Number(vmid), name: row?.querySelector(".name")?.textContent ?? "", refused: refusals(row) };
}

/** Selects all that match the filters, in sight or not. */
async function pickAll(): Promise<void> {
  const query = new URLSearchParams(search());
  query.delete("kind"); // virtual machines can't be selected
  query.set("limit", String(most));
  try {
    const { items, matched } = await call<{ items: Picked[]; matched: number }>("GET", `/api/containers?${query}`);
    for (const { nodeId, vmid, name } of items) picked.set(`${nodeId}/${vmid}`, { nodeId, vmid, name });
    if (matched > items.length) note(`The first ${items.length} of ${matched} are selected: no more can be changed in one go.`);
  } catch (error) {
    note((error as Error).message);
  } finally {
    show();
  }
}

function show(): void {
  for (const box of boxes()) {
    box.checked = picked.has(box.value);
    box.closest("tr")?.toggleAttribute("data-picked", box.checked);
    if (box.checked) picked.set(box.value, here(box));
  }
  const all = document.querySelector<HTMLInputElement>("#pick-all");
  if (all) {
    const some = picked.size < Number(containers()?.dataset.matches ?? 0);
    all.checked = picked.size > 0 && !some;
    all.indeterminate = picked.size > 0 && some;
  }
  const bar = document.getElementById("bulk");
  bar?.classList.toggle("bulk-on", picked.size > 0);
  const line = bar?.querySelector("[data-count]");
  const text = `${picked.size.toLocaleString("en")} selected`;
  if (line && line.textContent !== text) line.textContent = text;
  for (const button of bar?.querySelectorAll<HTMLElement>("[data-bulk]") ?? []) {
    const reason = refusedByAll(button.dataset.bulk ?? "");
    button.ariaDisabled = reason ? "true" : null;
    button.title = reason;
  }
}

/** Why none of the selected containers can be changed so; empty if one of them may. */
function refusedByAll(action: string): string {
  let why = "";
  for (const { name, refused } of picked.values()) {
    const reason = refused?.get(action);
    if (!reason) return "";
    why ||= picked.size === 1 ? reason : `None of the selected containers allows it. ${name}: ${reason}`;
  }
  return why;
}
