/** Wires the colour scheme switch. The choice is applied again before the first paint of every page by theme.ts. */
export function startThemeSwitch(): void {
  const root = document.documentElement;
  const show = (): void => {
    const chosen = root.dataset.theme ?? "system";
    for (const input of document.querySelectorAll<HTMLInputElement>("input[name=theme]")) {
      input.checked = input.value === chosen;
    }
  };
  const apply = (theme: string | null): void => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
    show();
  };
  show();
  document.addEventListener("change", (event) => {
    const input = event.target;
    if (!(input instanceof HTMLInputElement) || input.name !== "theme") return;
    apply(input.value);
    try {
      if (input.value === "system") localStorage.removeItem("theme");
      else localStorage.setItem("theme", input.value);
    } catch {
      // Storage can be forbidden; the choice then lasts as long as the page.
    }
  });
  // Another tab of this browser changed it.
  window.addEventListener("storage", (event) => {
    if (event.key === "theme" || event.key === null) apply(event.newValue);
  });
}
