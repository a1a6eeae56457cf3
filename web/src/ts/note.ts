/** Says what came of something that the person did, until they close it or do something else. */
export function note(text: string): void {
  const shown = document.getElementById("note");
  const line = shown?.querySelector("p");
  if (!shown || !line) return;
  line.textContent = text;
  shown.hidden = text === "";
}

export function startNotes(): void {
  document.querySelector("#note button")?.addEventListener("click", () => note(""));
}
