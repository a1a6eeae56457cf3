import { on } from "./htmx";

/** How often a visible page asks whether its session still lives; asking counts as use. */
const interval = 60_000;

let ended = false;
let checked = Date.now();

/** Says whether the session was found to be over: nothing on the page asks for anything from then on. */
export function sessionEnded(): boolean {
  return ended;
}

/** A path of the site, below its base path. */
export function sitePath(path: string): string {
  return (document.body.dataset.base ?? "") + path;
}

/** Shows a line about the connection, or none; the end of the session is the last word. */
export function say(message: string): void {
  if (ended) return;
  const line = document.getElementById("connection");
  if (line && line.textContent !== message) line.textContent = message;
}

/** Tells the person that the session is over, with a way back to this very page. */
function signedOut(): void {
  if (ended) return;
  say("");
  ended = true;
  const dialog = document.getElementById("signed-out") as HTMLDialogElement;
  const here = location.pathname.slice((document.body.dataset.base ?? "").length) + typed();
  for (const link of dialog.querySelectorAll("a")) {
    link.href = `${sitePath("/login")}?next=${encodeURIComponent(here)}`;
  }
  dialog.showModal();
}

/** The query of the page, with what stands in its search form now: it may have been typed after the last answer. */
function typed(): string {
  const form = document.querySelector<HTMLFormElement>("form[role=search]");
  if (!form) return location.search;
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (typeof value === "string" && value !== "") query.append(name, value);
  }
  const text = query.toString();
  return text && `?${text}`;
}

const unreachable = "No connection to Berth. Trying again.";

/** Takes note of an answer. It returns false if it means that the session is over, and tells the person. */
export function answered(response: Response): boolean {
  if (isSignedOut(response)) {
    signedOut();
    return false;
  }
  if (response.ok) say("");
  return true;
}

/** Tells the person that there is no answer at all: the network, or Berth itself, is gone. */
export function unanswered(): void {
  if (!document.hidden) say(unreachable);
}

/** Asks whether the session still lives, and tells the person if it doesn't. */
export async function checkSession(): Promise<void> {
  if (ended || document.hidden) return;
  checked = Date.now();
  try {
    answered(await fetch(sitePath("/api/auth/session"), { headers: { Accept: "application/json" }, cache: "no-store" }));
  } catch {
    unanswered();
  }
}

/** Whether an answer means that the session is over: a plain 401, or a redirect to the sign-in that was followed. */
function isSignedOut(response: Response): boolean {
  return response.status === 401 || (response.redirected && new URL(response.url).pathname === sitePath("/login"));
}

export function startConnection(): void {
  on("htmx:before:response", ({ ctx }) => {
    const response = ctx.response?.raw;
    if (response && !answered(response)) return false;
  });
  on("htmx:error", ({ ctx }) => {
    if (ctx && !ctx.response) say(unreachable);
  });

  setInterval(checkSession, interval);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && Date.now() - checked >= interval) void checkSession();
  });
  // A page from the browser's cache may belong to a session that has ended since.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) void checkSession();
  });
  window.addEventListener("online", () => void checkSession());
}
