import { on } from "./htmx";

/** How often a visible page asks whether its session still lives; asking counts as use. */
const interval = 60_000;

let ended = false;

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

/** Whether an answer means that the session is over: a plain 401, or a redirect to the sign-in that was followed. */
function isSignedOut(response: Response): boolean {
  return response.status === 401 || (response.redirected && new URL(response.url).pathname === sitePath("/login"));
}

export function startConnection(): void {
  on("htmx:before:response", ({ ctx }) => {
    const response = ctx.response?.raw;
    if (!response) return;
    if (isSignedOut(response)) {
      signedOut();
      return false;
    }
    if (response.ok) say("");
  });
  on("htmx:error", ({ ctx }) => {
    // No response at all: the network, or Berth itself, is gone.
    if (ctx && !ctx.response) say("No connection to Berth. Trying again.");
  });

  let checked = Date.now();
  const check = async (): Promise<void> => {
    if (ended || document.hidden) return;
    checked = Date.now();
    try {
      const response = await fetch(sitePath("/api/auth/session"), {
        headers: { Accept: "application/json" },
        cache: "no-store",
      });
      if (isSignedOut(response)) signedOut();
      else say("");
    } catch {
      if (!document.hidden) say("No connection to Berth. Trying again.");
    }
  };
  setInterval(check, interval);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && Date.now() - checked >= interval) void check();
  });
  // A page from the browser's cache may belong to a session that has ended since.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) void check();
  });
  window.addEventListener("online", () => void check());
}
