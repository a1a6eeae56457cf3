import { checkSession, sessionEnded, sitePath } from "./connection";
import { containers, fetchedAt, onShown, refresh, serverNow } from "./fleetlist";

/** How far two refreshes are apart at least, however often something happens. */
const pause = 250;
/** How often the list is fetched while there is no stream of events. */
const fallback = 10_000;
/** The waits between two attempts at a stream: they double from the first to the last. */
const firstWait = 1_000;
const lastWait = 60_000;
/**
 * How long after the last event the list is fetched once more if it came from another replica than the stream: that one may not
 * have seen yet what the stream told.
 */
const elsewhere = 3_000;

let source: EventSource | undefined;
let failures = 0;
let retryAt = 0;
let due: number | undefined;
let again: number | undefined;
let told = "";

/**
 * Follows what happens on the hosts. An event only says that something has changed; what it is now comes from the page
 * itself. A page that nobody sees holds no stream, and catches up when it is seen again.
 */
export function startStream(): void {
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      close();
      return;
    }
    failures = 0;
    retryAt = 0;
    refresh();
    tick();
  });
  addEventListener("online", () => {
    retryAt = 0;
  });
  addEventListener("pagehide", close);
  onShown(count);
  setInterval(tick, 1000);
  tick();
}

function tick(): void {
  if (sessionEnded()) {
    close();
    return;
  }
  if (document.hidden) return;
  count();
  if (source) return;
  if (Date.now() >= retryAt) open();
  if (Date.now() - fetchedAt() >= fallback) refresh();
}

function open(): void {
  const version = containers()?.dataset.version;
  if (!version) return;
  // From the version that is shown: if something has changed since, the stream begins with a reset.
  const stream = new EventSource(`${sitePath("/api/events")}?version=${encodeURIComponent(version)}`);
  source = stream;
  stream.addEventListener("open", () => {
    failures = 0;
  });
  for (const name of ["containers", "tasks", "reset"]) stream.addEventListener(name, changed);
  stream.addEventListener("end", () => {
    close();
    void checkSession();
  });
  // The browser's own way to try again knows no back-off and never gives a refusal a second chance.
  stream.addEventListener("error", () => {
    if (source !== stream) return;
    close();
    retryAt = Date.now() + Math.min(firstWait * 2 ** failures, lastWait) * (0.5 + Math.random() / 2);
    failures++;
    if (failures === 1) void checkSession();
  });
}

function close(): void {
  source?.close();
  source = undefined;
  clearTimeout(due);
  due = undefined;
  clearTimeout(again);
}

/** The replica that a version is of. */
const replicaOf = (version: string): string => version.split(".", 1)[0] ?? "";

function changed(event: MessageEvent): void {
  told = event.lastEventId;
  clearTimeout(again);
  again = window.setTimeout(() => {
    if (!document.hidden && replicaOf(containers()?.dataset.version ?? "") !== replicaOf(told)) refresh();
  }, elsewhere);
  due ??= window.setTimeout(() => {
    due = undefined;
    if (!document.hidden) refresh();
  }, Math.max(0, fetchedAt() + pause - Date.now()));
}

/** Has the times count on: "4 minutes ago". */
function count(): void {
  for (const time of containers()?.querySelectorAll<HTMLTimeElement>("time[data-ago]") ?? []) {
    const text = ago(serverNow() - Date.parse(time.dateTime));
    if (time.textContent !== text) time.textContent = text;
  }
}

/** Writes how long ago something was, as the server does. */
function ago(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000);
  const say = (n: number, unit: string): string => `${n} ${unit}${n === 1 ? "" : "s"} ago`;
  if (seconds < 5) return "just now";
  if (seconds < 60) return say(seconds, "second");
  if (seconds < 3600) return say(Math.floor(seconds / 60), "minute");
  if (seconds < 48 * 3600) return say(Math.floor(seconds / 3600), "hour");
  return say(Math.floor(seconds / 86400), "day");
}
