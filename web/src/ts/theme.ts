// Runs in <head>, before the first paint: a colour scheme that was chosen here earlier must not flash the other one.

const root = document.documentElement;
root.classList.add("js");
try {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
} catch {
  // Storage can be forbidden; the page then follows the system.
}
