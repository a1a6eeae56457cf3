import { act } from "./fleetaction";
import { onShown } from "./fleetlist";
import { refusals } from "./refused";

// The menu of a row, which is one for all rows: it opens at the button that asked for it.

let opener: HTMLElement | undefined;

const menu = (): HTMLElement | null => document.getElementById("row-menu");
const items = (): HTMLElement[] => [...(menu()?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];

export function startMenu(): void {
  const popup = menu();
  if (!popup) return;
  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-menu]") : null;
    if (button) open(button);
    const item = event.target instanceof Element ? event.target.closest<HTMLElement>("#row-menu [data-action]") : null;
    const row = opener?.closest<HTMLTableRowElement>("tr");
    if (!item || !row || item.ariaDisabled) return;
    popup.hidePopover();
    act(row, item.dataset.action ?? "");
  });
  document.addEventListener("keydown", (event) => {
    const button = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-menu]") : null;
    if (button && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      open(button);
    }
  });
  popup.addEventListener("keydown", steer);
  popup.addEventListener("toggle", (event) => {
    if ((event as ToggleEvent).newState === "closed") closed();
  });
  // A row that has gone takes its menu along; one that has changed allows something else now.
  onShown(() => {
    if (!opener) return;
    if (opener.isConnected) fill(opener);
    else popup.hidePopover();
  });
  document.addEventListener("scroll", () => opener && popup.hidePopover(), { passive: true });
}

function open(button: HTMLElement): void {
  const popup = menu();
  if (!popup) return;
  opener = button;
  fill(button);
  popup.showPopover();
  button.setAttribute("aria-expanded", "true");
  const at = button.getBoundingClientRect();
  const size = popup.getBoundingClientRect();
  const below = at.bottom + 4 + size.height <= innerHeight;
  popup.style.top = `${Math.max(8, below ? at.bottom + 4 : at.top - 4 - size.height)}px`;
  popup.style.left = `${Math.max(8, at.right - size.width)}px`;
  items()[0]?.focus();
}

/** Says of each action whether the row allows it, and why not. */
function fill(button: HTMLElement): void {
  const reasons = refusals(button.closest("tr"));
  menu()?.setAttribute("aria-label", button.getAttribute("aria-label") ?? "Actions");
  for (const item of items()) {
    const reason = reasons.get(item.dataset.action ?? "");
    item.ariaDisabled = reason === undefined ? null : "true";
    const line = item.querySelector("small");
    if (line) line.textContent = reason ?? "";
  }
}

function closed(): void {
  opener?.setAttribute("aria-expanded", "false");
  if (opener?.isConnected && (document.activeElement === document.body || menu()?.contains(document.activeElement))) opener.focus({ preventScroll: true });
  opener = undefined;
}

function steer(event: KeyboardEvent): void {
  const all = items();
  const at = all.indexOf(document.activeElement as HTMLElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    all.at(to % all.length)?.focus();
  } else if (event.key === "Tab") {
    menu()?.hidePopover();
  } else if (/^[a-z]$/i.test(event.key)) {
    const letter = event.key.toLowerCase();
    const order = [...all.slice(at + 1), ...all.slice(0, at + 1)];
    order.find((item) => item.textContent?.trim().toLowerCase().startsWith(letter))?.focus();
  }
}
