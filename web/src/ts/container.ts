import { startGraphs } from "./graph";

/** The page about one container: its graphs, and the menu of what is done seldom. */
export function startContainer(): void {
  if (!document.querySelector(".container")) return;
  startGraphs();
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
