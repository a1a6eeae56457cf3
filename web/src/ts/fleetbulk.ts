import { call, Refusal } from "./api";
import { sessionEnded, sitePath } from "./connection";
import { ask, closeDialog } from "./dialog";
import { refresh } from "./fleetlist";
import { clearSelection, selection } from "./fleetpick";
import { hasten, send } from "./live";
import { note } from "./note";

// What is done to many containers in one go: asked for in a dialog, and followed in a panel until the last one has ended.

interface Operation {
  id: string;
  node: string;
  vmid: number;
  name: string;
  state: "waiting" | "sending" | "running" | "done" | "failed" | "canceled" | "unknown";
  error?: string;
}

interface Run {
  id: string;
  action: string;
  ended: boolean;
  operations: Operation[];
}

/** How often a run that goes on is asked for. */
const interval = 1000;
/** Where a page that is loaded anew finds the run that it followed. */
const remembered = "bulk-run";

const labels: Record<string, string> = { start: "Start", shutdown: "Shut down", stop: "Stop", reboot: "Reboot", tag: "Change tags" };
const states: Record<Operation["state"], string> = {
  waiting: "waiting",
  sending: "asking Proxmox VE",
  running: "running",
  done: "done",
  failed: "failed",
  canceled: "canceled",
  unknown: "unknown",
};

let followed: string | undefined;

const panel = (): HTMLElement | null => document.getElementById("run-panel");
const containersText = (n: number): string => (n === 1 ? "1 container" : `${n.toLocaleString("en")} containers`);

export function startBulk(): void {
  if (!panel()) return;
  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-bulk], [data-run]") : null;
    if (button?.ariaDisabled) note(button.title);
    else if (button?.dataset.bulk) void choose(button.dataset.bulk);
    else if (button?.dataset.run === "cancel") void cancel();
    else if (button?.dataset.run === "close") close();
  });
  document.querySelector("#ask")?.addEventListener("submit", (event) => {
    const form = event.target;
    // The property of that name is the field "action".
    if (!(form instanceof HTMLFormElement) || form.getAttribute("action") !== sitePath("/bulk")) return;
    event.preventDefault();
    void begin(form);
  });
  const earlier = sessionStorage.getItem(remembered);
  if (earlier) {
    followed = earlier;
    void look();
  }
}

/** Asks before the selected containers are changed. */
async function choose(action: string): Promise<void> {
  const form = new URLSearchParams({ action });
  for (const ref of selection().keys()) form.append("ref", ref);
  await ask("/bulk", refresh, form);
}

async function begin(form: HTMLFormElement): Promise<void> {
  const submit = form.querySelector<HTMLButtonElement>("[type=submit]");
  if (submit) submit.disabled = true;
  const run = (await ask("/bulk", refresh, new URLSearchParams(new FormData(form) as never)))?.split("/").at(-1);
  if (submit) submit.disabled = false;
  if (!run) return;
  closeDialog();
  clearSelection();
  sessionStorage.setItem(remembered, run);
  follow(run);
}

function follow(id: string): void {
  followed = id;
  leaveOut(id);
  void look();
}

/** The panel tells what fails in its run, so the notices of the page leave that out as long as it is open. */
function leaveOut(run?: string): void {
  const notices = document.getElementById("notices");
  const live = sitePath("/tasks/glance") + (run ? `?but=${encodeURIComponent(run)}` : "");
  if (!notices || notices.dataset.live === live) return;
  notices.dataset.live = live;
  hasten(notices.id);
}

async function look(): Promise<void> {
  const id = followed;
  if (!id || sessionEnded()) return;
  try {
    const run = await call<Run>("GET", `/api/bulk/${encodeURIComponent(id)}`);
    if (followed !== id) return;
    show(run);
    if (run.ended) {
      followed = undefined;
      refresh();
      return;
    }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.code !== "no_connection") {
      close(); // it is not known any more
      return;
    }
  }
  setTimeout(look, interval);
}

async function cancel(): Promise<void> {
  if (!followed) return;
  try {
    show(await call<Run>("POST", `/api/bulk/${encodeURIComponent(followed)}/cancel`));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const line = panel()?.querySelector(".run-line");
    if (line) line.textContent = error.message;
  }
}

function close(): void {
  followed = undefined;
  const run = sessionStorage.getItem(remembered);
  sessionStorage.removeItem(remembered);
  const shown = panel();
  if (!shown) return;
  // Whoever closes the panel of a run that has ended has seen what failed.
  if (run && !shown.hidden && shown.dataset.ended === "true") void send(sitePath(`/notices/${encodeURIComponent(run)}/seen`));
  shown.hidden = true;
  leaveOut();
}

function show(run: Run): void {
  const shown = panel();
  if (!shown) return;
  const count = (...of: Operation["state"][]): number => run.operations.filter(({ state }) => of.includes(state)).length;
  const all = run.operations.length;
  const ended = all - count("waiting", "sending", "running");
  const parts = [
    [count("done"), "done"],
    [count("failed", "unknown"), "failed"],
    [count("canceled"), "canceled"],
    [count("sending", "running"), "under way"],
    [count("waiting"), "waiting"],
  ].filter(([n]) => n !== 0);
  // One that the page came with stays where it is: everything below it would move.
  if (!run.operations.some(({ id }) => document.getElementById(`notice-${id}`))) leaveOut(run.id);
  shown.hidden = false;
  shown.dataset.ended = String(run.ended);
  text(shown.querySelector("h2"), `${labels[run.action] ?? run.action}: ${containersText(all)}`);
  text(shown.querySelector(".run-line"), parts.map(([n, what]) => `${n} ${what}`).join(", "));
  const bar = shown.querySelector("progress");
  if (bar) [bar.max, bar.value] = [Math.max(all, 1), ended];
  const stop = shown.querySelector<HTMLButtonElement>("[data-run=cancel]");
  if (stop) stop.hidden = count("waiting") === 0;
  const list = shown.querySelector("ul");
  if (!list) return;
  const lines = new Map([...list.children].map((line) => [(line as HTMLElement).dataset.id, line as HTMLElement]));
  for (const operation of run.operations) {
    const line = lines.get(operation.id) ?? list.appendChild(newLine(operation));
    if (line.dataset.state === operation.state) continue;
    line.dataset.state = operation.state;
    text(line.querySelector(".run-state"), states[operation.state]);
    text(line.querySelector("small"), operation.error ?? "");
  }
  for (const [id, line] of lines) {
    if (!run.operations.some((operation) => operation.id === id)) line.remove();
  }
}

function newLine({ id, name, vmid, node }: Operation): HTMLElement {
  const line = document.createElement("li");
  line.dataset.id = id;
  const who = document.createElement("span");
  who.textContent = `${name} (${vmid})${node && `, ${node}`}`;
  const state = document.createElement("span");
  state.className = "run-state";
  line.append(who, state, document.createElement("small"));
  return line;
}

function text(element: Element | null, value: string): void {
  if (element && element.textContent !== value) element.textContent = value;
}
