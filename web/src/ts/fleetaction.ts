import htmx from "htmx.org";

import { call, Refusal } from "./api";
import { answered, sitePath } from "./connection";
import { refresh } from "./fleetlist";
import { note } from "./note";

// What is done to one container from its row: starting at once; all else has a page that asks first, which is shown as a
// dialog and goes on there with how the change goes.

const dialog = (): HTMLDialogElement | null => document.querySelector<HTMLDialogElement>("#ask");

export function startActions(): void {
  const shown = dialog();
  if (!shown) return;
  document.addEventListener("click", (event) => {
    const control = event.target instanceof Element ? event.target.closest<HTMLElement>("#rows [data-action]") : null;
    const row = control?.closest<HTMLTableRowElement>("tr");
    if (!control || !row || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (control.ariaDisabled) note(control.title);
    else act(row, control.dataset.action ?? "");
  });
  shown.addEventListener("click", (event) => {
    if (!(event.target instanceof Element) || !event.target.closest("[data-close]")) return;
    event.preventDefault();
    shown.close();
  });
  shown.addEventListener("close", () => {
    shown.replaceChildren();
    refresh();
  });
}

/** Does something to the container of a row, or asks first. */
export function act(row: HTMLTableRowElement, action: string): void {
  note("");
  const path = `/containers/${row.dataset.ref}/${action}`;
  if (document.querySelector(`#row-menu [data-action=${action}][data-asks]`)) void ask(path);
  else void begin(row, path);
}

async function begin(row: HTMLTableRowElement, path: string): Promise<void> {
  row.ariaBusy = "true";
  try {
    const { state, error } = await call<{ state: string; error?: string }>("POST", `/api${path}`, {});
    if (error && (state === "failed" || state === "unknown")) note(error);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    note(`${row.querySelector(".name")?.textContent ?? ""}: ${error.message}`);
  } finally {
    row.ariaBusy = null;
    refresh();
  }
}

/** Shows a page that asks in the dialog. It returns where the answer leads to, if it asks nothing. */
export async function ask(path: string, form?: URLSearchParams): Promise<string | undefined> {
  const shown = dialog();
  if (!shown) return undefined;
  let text: string;
  try {
    const sent = form ? { method: "POST", body: form } : {};
    const response = await fetch(sitePath(path), { headers: { "HX-Request": "true" }, cache: "no-store", ...sent });
    if (!answered(response)) return undefined;
    const onwards = response.headers.get("HX-Redirect");
    if (onwards) return onwards;
    text = await response.text();
  } catch {
    note("No connection to Berth.");
    return undefined;
  }
  const page = new DOMParser().parseFromString(text, "text/html");
  const asks = page.getElementById("change");
  if (!asks) {
    note(page.querySelector("main")?.textContent?.trim().replace(/\s+/g, " ") ?? "That did not work.");
    return undefined;
  }
  shown.replaceChildren(document.importNode(asks, true));
  htmx.process(shown);
  if (!shown.open) shown.showModal();
  for (const first of ["input:not([type=hidden], [type=checkbox])", "[type=submit]", "[data-close]"]) {
    const control = shown.querySelector<HTMLElement>(first);
    if (!control) continue;
    control.focus();
    break;
  }
  return undefined;
}

export function closeDialog(): void {
  dialog()?.close();
}
