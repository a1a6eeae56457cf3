import { ask, startDialog } from "./dialog";
import { startGraphs } from "./graph";
import { hasten } from "./live";
import { note, startNotes } from "./note";

/** The page about one container: its graphs, and the menu of what is done seldom. */
export function startContainer(): void {
  if (!document.querySelector(".container")) return;
  startGraphs();
  startDialog();
  startNotes();
  document.addEventListener("click", (event) => {
    if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest<HTMLAnchorElement>("a[data-asks]") : null;
    if (!link) return;
    event.preventDefault();
    note("");
    void ask(link.pathname.slice((document.body.dataset.base ?? "").length), (begun) => {
      const way = begun?.getAttribute("data-goes");
      // What is deleted has no page to stay on.
      if (way && link.dataset.gone !== undefined) location.assign(way);
      else hasten("live");
    });
  });
  document.addEventListener("click", (event) => {
    for (const menu of openMenus()) {
      if (!menu.contains(event.target as Node)) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of openMenus()) {
      menu.open = false;
      menu.querySelector("summary")?.focus();
    }
  });
}

function openMenus(): NodeListOf<HTMLDetailsElement> {
  return document.querySelectorAll("details.more-actions[open]");
}
