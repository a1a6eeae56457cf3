import { startDialog } from "./dialog";
import { startActions } from "./fleetaction";
import { startBulk } from "./fleetbulk";
import { containers, load, search, startList } from "./fleetlist";
import { startMenu } from "./fleetmenu";
import { startPick } from "./fleetpick";
import { startStream } from "./fleetstream";
import { startNotes } from "./note";

/** The list of containers: search, filters and order change it in place, and it follows what happens on the hosts. */
export function startFleet(): void {
  startSearch();
  if (!containers()) return;
  startList();
  startFilters();
  startPick();
  startMenu();
  startDialog();
  startActions();
  startBulk();
  startNotes();
  startStream();
}

const box = (): HTMLInputElement | null => document.querySelector<HTMLInputElement>("#q");
const form = (): HTMLFormElement | null => document.querySelector<HTMLFormElement>("#search");

/** What the controls of the filters say, as in the page's address. */
function chosen(): string {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form() ?? undefined)) {
    if (typeof value === "string" && value !== "") query.append(name, value);
  }
  query.sort();
  const text = query.toString();
  return text && `?${text}`;
}

/** Has the controls of the filters say what an address does, ahead of the answer: the next key may come before it. */
function choose(query: URLSearchParams): void {
  for (const control of form()?.elements ?? []) {
    if (control instanceof HTMLInputElement && control.type === "checkbox") control.checked = query.get(control.name) === control.value;
    else if (control instanceof HTMLInputElement || control instanceof HTMLSelectElement) control.value = query.get(control.name) ?? "";
  }
}

function startFilters(): void {
  document.addEventListener("input", (event) => {
    if (event.target === box()) load({ search: chosen(), from: 0, history: "replace" });
  });
  document.addEventListener("change", (event) => {
    const control = event.target;
    if (control instanceof HTMLSelectElement || (control instanceof HTMLInputElement && control.type === "checkbox")) {
      if (control.form === form()) load({ search: chosen(), from: 0, history: "push" });
    }
  });
  form()?.addEventListener("submit", (event) => {
    event.preventDefault();
    load({ search: chosen(), from: 0, history: "replace" });
  });
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest<HTMLAnchorElement>("#containers a[href]") : null;
    if (!link || link.pathname !== location.pathname || link.origin !== location.origin) return;
    event.preventDefault();
    const query = new URLSearchParams(link.search);
    // What was typed may not be in the links yet.
    const typed = box()?.value ?? "";
    if (link.dataset.clear === undefined && typed !== "") query.set("q", typed);
    choose(query);
    load({ search: chosen(), from: 0, history: "push" });
  });
  addEventListener("popstate", () => {
    choose(new URLSearchParams(location.search));
    load({ search: location.search, from: 0 });
  });
  // The choice of columns is remembered and shown at once; without scripts the form has a button.
  document.addEventListener("change", (event) => {
    const layout = event.target instanceof Element ? event.target.closest<HTMLFormElement>("#layout form") : null;
    if (layout) void remember(layout);
  });
  document.addEventListener("click", (event) => {
    const open = document.querySelector<HTMLDetailsElement>("details.drop[open]");
    if (open && event.target instanceof Node && !open.contains(event.target)) open.open = false;
  });
  document.addEventListener("keydown", (event) => {
    const open = document.querySelector<HTMLDetailsElement>("details.drop[open]");
    if (event.key !== "Escape" || !open?.contains(document.activeElement)) return;
    open.open = false;
    open.querySelector("summary")?.focus();
  });
}

async function remember(layout: HTMLFormElement): Promise<void> {
  try {
    await fetch(layout.action, { method: "POST", body: new URLSearchParams(new FormData(layout) as never), headers: { "HX-Request": "true" } });
  } catch {
    return; // the next refresh says that there is no connection
  }
  load({ search: search(), from: 0 });
}

/** "/" goes to the search box from anywhere on the page that doesn't take text. */
function startSearch(): void {
  const field = box();
  if (!field) return;
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if ((event.target as HTMLElement).closest("input:not([type=radio], [type=checkbox]), textarea, select, dialog, [contenteditable]")) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && field.value === "") field.blur();
  });
}
