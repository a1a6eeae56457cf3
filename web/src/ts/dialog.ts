import htmx from "htmx.org";

import { answered, sitePath } from "./connection";
import { on } from "./htmx";
import { note } from "./note";

// A page that asks before something is done is shown as a dialog over the page that one is at. Once Proxmox VE has taken what it
// asks about the dialog closes; what fails then is a notice.

/** What becomes of a question: the answer that shows the change on its way, none if nothing was begun. */
type Closed = (begun?: Element) => void;

let closed: Closed = () => undefined;
let begun: Element | undefined;

const dialog = (): HTMLDialogElement | null => document.querySelector<HTMLDialogElement>("#ask");

export function startDialog(): void {
  const shown = dialog();
  if (!shown) return;
  shown.addEventListener("click", (event) => {
    if (!(event.target instanceof Element) || !event.target.closest("[data-close]")) return;
    event.preventDefault();
    shown.close();
  });
  on("htmx:before:swap", ({ ctx }) => {
    if (!shown.contains(ctx.sourceElement)) return true;
    begun = accepted(ctx.text ?? "");
    if (!begun) return true;
    shown.close();
    return false;
  });
  shown.addEventListener("close", () => {
    shown.replaceChildren();
    const change = begun;
    begun = undefined;
    closed(change);
  });
}

/** The change that an answer shows, if it goes on or has ended well: it asks nothing more and reports nothing. */
function accepted(text: string): Element | undefined {
  const change = new DOMParser().parseFromString(text, "text/html").getElementById("change");
  return change && !change.querySelector("form, [role=alert]") ? change : undefined;
}

/**
 * Shows a page that asks in the dialog, and calls back when that has been closed. It returns where the answer leads to, if it
 * asks nothing.
 */
export async function ask(path: string, whenClosed: Closed, form?: URLSearchParams): Promise<string | undefined> {
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
  closed = whenClosed;
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
