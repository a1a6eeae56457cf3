import { answered, say, sessionEnded, unanswered } from "./connection";
import { morph } from "./fleetmorph";

// Parts of pages that follow what goes on: an element with data-live is asked for again at that address every data-every
// milliseconds, as long as it is in sight and its answer still says so. Of the answer each element with data-part takes the
// place of the one that has its id.

/** When each part, by its id, is due to be asked for. */
const due = new Map<string, number>();
const asking = new Set<string>();

export function startLive(): void {
  setInterval(() => {
    if (document.hidden || sessionEnded()) return;
    const now = Date.now();
    for (const part of document.querySelectorAll<HTMLElement>("[data-live]")) {
      const at = due.get(part.id);
      // The first time is soon after the page: what is at a glance is not in the page itself.
      if (at === undefined) due.set(part.id, now + (part.childElementCount > 0 ? Number(part.dataset.every) : 0));
      else if (now >= at && !asking.has(part.id)) void ask(part);
    }
  }, 250);
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || form.dataset.quiet === undefined) return;
    event.preventDefault();
    void send(form.action);
  });
  for (const log of document.querySelectorAll<HTMLElement>("[data-scroll]")) log.scrollTop = log.scrollHeight;
}

/** Has a part asked for now. */
export function hasten(id: string): void {
  due.set(id, 0);
}

async function ask(part: HTMLElement): Promise<void> {
  asking.add(part.id);
  try {
    const response = await fetch(part.dataset.live ?? "", { cache: "no-store" });
    if (!answered(response)) return;
    if (response.ok) show(await response.text());
    else if (response.status === 404) say("What this page is about is not there any more.");
  } catch {
    unanswered();
  } finally {
    asking.delete(part.id);
    due.set(part.id, Date.now() + Number(part.dataset.every));
  }
}

/** Sends what needs no more than its address, without leaving the page; the answer has the parts that have changed. */
export async function send(action: string): Promise<void> {
  try {
    const response = await fetch(action, { method: "POST", headers: { "HX-Request": "true" } });
    if (answered(response) && response.ok) show(await response.text());
  } catch {
    unanswered();
  }
}

function show(text: string): void {
  const next = new DOMParser().parseFromString(text, "text/html");
  for (const part of next.querySelectorAll<HTMLElement>("[data-part]")) {
    const old = document.getElementById(part.id);
    if (!old) continue;
    const place = part.classList.contains("alerts") ? hold(old, part) : undefined;
    const logs = [...old.querySelectorAll<HTMLElement>("[data-scroll]")].filter((log) => log.scrollTop + log.clientHeight >= log.scrollHeight - 4);
    morph(old, document.importNode(part, true));
    place?.();
    for (const log of logs) log.scrollTop = log.scrollHeight;
  }
}

/**
 * Alerts that come after the page move nothing that somebody reads or is about to click. Where there were none they lie over a
 * corner of the page; where there were, they keep the place that those had. So it is until the last one is gone or the page is
 * loaded again. Returns what has to happen once they are shown.
 */
function hold(alerts: HTMLElement, next: HTMLElement): (() => void) | undefined {
  const held = alerts.dataset.held;
  if (held === undefined && ![...next.querySelectorAll("[id]")].some(({ id }) => !document.getElementById(id))) return;
  const empty = next.childElementCount === 0;
  const { height, marginBottom } = held === undefined ? getComputedStyle(alerts) : alerts.style;
  const over = held ?? (alerts.childElementCount > 0 ? "place" : "corner");
  return () => {
    if (empty) delete alerts.dataset.held;
    else alerts.dataset.held = over;
    alerts.style.height = empty || over === "corner" ? "" : height;
    alerts.style.marginBottom = empty || over === "corner" ? "" : marginBottom;
  };
}
