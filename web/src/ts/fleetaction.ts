import { call, Refusal } from "./api";
import { ask } from "./dialog";
import { refresh } from "./fleetlist";
import { note } from "./note";

// What is done to one container from its row: starting at once; all else has a page that asks first, which is shown as a
// dialog. Once Proxmox VE has taken the change the row shows how it goes.

/** How long the row says by itself that something goes on, should the server not say more. */
const patience = 3000;

export function startActions(): void {
  document.addEventListener("click", (event) => {
    const control = event.target instanceof Element ? event.target.closest<HTMLElement>("#rows [data-action]") : null;
    const row = control?.closest<HTMLTableRowElement>("tr");
    if (!control || !row || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (control.ariaDisabled) note(control.title);
    else act(row, control.dataset.action ?? "");
  });
}

/** Does something to the container of a row, or asks first. */
export function act(row: HTMLTableRowElement, action: string): void {
  note("");
  const ref = row.dataset.ref ?? "";
  const path = `/containers/${ref}/${action}`;
  if (!document.querySelector(`#row-menu [data-action=${action}][data-asks]`)) {
    void begin(row, path, action);
    return;
  }
  void ask(path, (begun) => {
    if (begun) goesOn(ref, action);
    else refresh();
  });
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
