import htmx from "htmx.org";

import { call, Refusal } from "./api";
import { answered, sitePath } from "./connection";
import { refresh } from "./fleetlist";
import { on } from "./htmx";
import { note } from "./note";

// What is done to one container from its row: starting at once; all else has a page that asks first, which is shown as a
// dialog. Once Proxmox VE has taken the change the dialog closes, and the row shows how it goes; what fails then is a notice.

/** How long the row says by itself that something goes on, should the server not say more. */
const patience = 3000;

/** The row and the action that the dialog asks about; none when it asks about many. */
let asked: { ref: string; action: string } | undefined;
/** Whether Proxmox VE has taken what the dialog asked about. */
let begun = false;

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
  on("htmx:before:swap", ({ ctx }) => {
    if (!asked || !shown.contains(ctx.sourceElement) || !accepted(ctx.text ?? "")) return true;
    begun = true;
    shown.close();
    return false;
  });
  shown.addEventListener("close", () => {
    shown.replaceChildren();
    if (begun && asked) goesOn(asked.ref, asked.action);
    else refresh();
    begun = false;
    asked = undefined;
  });
}

/** Does something to the container of a row, or asks first. */
export function act(row: HTMLTableRowElement, action: string): void {
  note("");
  const path = `/containers/${row.dataset.ref}/${action}`;
  if (document.querySelector(`#row-menu [data-action=${action}][data-asks]`)) void ask(path, undefined, { ref: row.dataset.ref ?? "", action });
  else void begin(row, path, action);
}

/** Tells whether an answer shows a change that goes on, or has ended well: it asks nothing more and reports nothing. */
function accepted(text: string): boolean {
  const change = new DOMParser().parseFromString(text, "text/html").getElementById("change");
  return change !== null && !change.querySelector("form, [role=alert]");
}

/** Has a row say what is being done to its container, until the server says so itself. */
function goesOn(ref: string, action: string): void {
  const row = document.querySelector<HTMLTableRowElement>(`#rows tr[data-ref="${CSS.escape(ref)}"]`);
  const doing = document.querySelector<HTMLElement>(`#row-menu [data-action=${action}]`)?.dataset.doing;
  const status = row?.querySelector<HTMLElement>(".col-status .status");
  if (status && doing) {
    const spinner = document.createElement("i");
    spinner.className = "spinner";
    status.dataset.kind = "busy";
    status.replaceChildren(spinner, doing);
  }
  setTimeout(refresh, doing ? patience : 0);
}

async function begin(row: HTMLTableRowElement, path: string, action: string): Promise<void> {
  const ref = row.dataset.ref ?? "";
  row.ariaBusy = "true";
  goesOn(ref, action);
  try {
    const { state, error } = await call<{ state: string; error?: string }>("POST", `/api${path}`, {});
    if (error && (state === "failed" || state === "unknown")) {
      note(error);
      refresh();
    }
  } catch (error) {
    refresh();
    if (!(error instanceof Refusal)) throw error;
    note(`${row.querySelector(".name")?.textContent ?? ""}: ${error.message}`);
  } finally {
    row.ariaBusy = null;
  }
}

/** Shows a page that asks in the dialog. It returns where the answer leads to, if it asks nothing. */
export async function ask(path: string, form?: URLSearchParams, about?: typeof asked): Promise<string | undefined> {
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
  asked = about;
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
