/** Wires buttons that copy the value of an input; the button's data-copy is the input's id. */
export function startCopy(): void {
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element)) return;
    const button = event.target.closest<HTMLButtonElement>("button[data-copy]");
    const input = button && document.getElementById(button.dataset.copy ?? "");
    if (button && input instanceof HTMLInputElement) void copy(input, button);
  });
}

async function copy(input: HTMLInputElement, button: HTMLButtonElement): Promise<void> {
  const label = button.textContent;
  input.focus();
  input.select();
  let done = false;
  try {
    await navigator.clipboard.writeText(input.value);
    done = true;
  } catch {
    // Without HTTPS there is no clipboard to write to, but the old way may still work. Else the text is selected at least.
    done = document.execCommand("copy");
  }
  button.textContent = done ? "Copied" : "Press Ctrl+C";
  setTimeout(() => {
    button.textContent = label;
  }, 3000);
}
