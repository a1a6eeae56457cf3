import { on } from "./htmx";

/** Pages and dialogs that ask before something is changed: after an answer one goes on where it wants something. */
export function startChanges(): void {
  on("htmx:after:swap", ({ ctx }) => {
    if (ctx.select !== "#change") return;
    const change = document.getElementById("change");
    for (const next of ["[aria-invalid=true]", "#change-title"]) {
      const found = change?.querySelector<HTMLElement>(next);
      if (!found) continue;
      found.focus();
      break;
    }
  });
}
