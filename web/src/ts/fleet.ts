import htmx from "htmx.org";

import { say, sessionEnded } from "./connection";
import { on } from "./htmx";

const target = "#containers";

/** The list of containers: keeps itself fresh while somebody can see it, and keeps its address short. */
export function startFleet(): void {
  const fleet = document.querySelector<HTMLElement>(target);
  startSearch();
  if (!fleet) return;

  on("htmx:config:request", ({ ctx }) => {
    if (ctx.select !== target || ctx.request.method !== "GET") return;
    const { body } = ctx.request;
    for (const [name, value] of [...(body?.entries() ?? [])]) {
      if (value === "") body?.delete(name);
    }
  });

  // An error page holds no list: keep what is shown and say so.
  on("htmx:before:swap", ({ ctx, tasks }) => {
    if (ctx.select !== target) return;
    if (tasks.some((task) => task.type === "main" && !task.fragment.firstElementChild)) {
      say(`The list could not be updated (status ${ctx.response?.status ?? "?"}). Trying again.`);
      return false;
    }
    refreshed = Date.now();
  });

  const interval = Number(fleet.dataset.refresh) * 1000;
  let refreshed = Date.now();
  const refresh = (): void => {
    if (sessionEnded() || document.hidden || Date.now() - refreshed < interval) return;
    refreshed = Date.now();
    void htmx.ajax("GET", location.pathname + location.search, {
      source: target,
      target,
      select: target,
      swap: "outerMorph",
    });
  };
  setInterval(refresh, 1000);
  document.addEventListener("visibilitychange", refresh);
}

/** "/" goes to the search box from anywhere on the page that doesn't take text. */
function startSearch(): void {
  const box = document.querySelector<HTMLInputElement>("#q");
  if (!box) return;
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if ((event.target as HTMLElement).closest("input:not([type=radio]), textarea, select, dialog, [contenteditable]")) return;
    event.preventDefault();
    box.focus();
    box.select();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && box.value === "") box.blur();
  });
  // The link that clears the filters is in the list, the box that it has to empty is not.
  document.addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest("[data-clear]")) box.value = "";
  });
}
