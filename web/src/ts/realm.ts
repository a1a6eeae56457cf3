/** A realm as the server describes it. */
interface Realm {
  name: string;
  type: string;
  comment?: string;
  default: boolean;
  unavailable?: string;
}

const maxComment = 60;

/**
 * The realms of the sign-in form: those of the host that stands in it, and what the chosen one changes. And the page to
 * which an identity provider sends people back.
 */
export function startRealms(): void {
  let asked: AbortController | undefined;

  document.addEventListener("change", (event) => {
    const field = event.target;
    if (field instanceof HTMLSelectElement && field.id === "realm") {
      field.dataset.chosen = "";
      nameRealm(field);
    } else if (field instanceof HTMLInputElement && (field.name === "host" || field.name === "port")) {
      const select = field.form?.querySelector<HTMLSelectElement>("select[data-realms]");
      if (!select) return;
      asked?.abort();
      if (!field.form!.querySelector<HTMLInputElement>("input[name=port]")?.validity.valid) return;
      asked = new AbortController();
      void ask(select, field.form!, asked.signal);
    }
  });
  document.querySelectorAll<HTMLSelectElement>("select[data-realms]").forEach(nameRealm);

  const back = document.querySelector<HTMLFormElement>("form[data-send]");
  if (back) {
    // What stands in the address is good for one sign-in: it need not be in the history.
    history.replaceState(null, "", location.pathname);
    back.requestSubmit();
    back.querySelector("button")!.disabled = true;
  }
}

/** Puts the chosen realm's name on the button. */
function nameRealm(select: HTMLSelectElement): void {
  const name = select.form?.querySelector("[data-realm-name]");
  const chosen = select.selectedOptions[0];
  if (name && chosen?.dataset.openid !== undefined) name.textContent = chosen.value;
}

/** Asks for the realms of the host in the form. Without an answer those that are there stay. */
async function ask(select: HTMLSelectElement, form: HTMLFormElement, signal: AbortSignal): Promise<void> {
  const typed = new FormData(form);
  const query = new URLSearchParams();
  for (const name of ["host", "port"]) {
    const value = typed.get(name);
    if (typeof value === "string" && value.trim() !== "") query.set(name, value);
  }
  try {
    const answer = await fetch(`${select.dataset.realms}?${query}`, { headers: { Accept: "application/json" }, signal });
    if (!answer.ok) return;
    const { items } = (await answer.json()) as { items: Realm[] };
    if (select.isConnected) offer(select, items);
  } catch {
    // Typed on, or out of reach: the form itself will say what is wrong.
  }
}

function offer(select: HTMLSelectElement, realms: Realm[]): void {
  // Only what the visitor chose outweighs what the host prefers.
  const before = select.dataset.chosen === undefined ? undefined : select.value;
  const usable = realms.filter((realm) => !realm.unavailable);
  const chosen = usable.find((realm) => realm.name === before) ?? usable.find((realm) => realm.default) ?? usable[0];
  select.replaceChildren(
    ...realms.map((realm) => {
      const option = new Option(label(realm), realm.name, realm === chosen, realm === chosen);
      option.disabled = Boolean(realm.unavailable);
      if (realm.type === "openid") option.dataset.openid = "";
      return option;
    }),
  );
  const hint = document.getElementById("realm-hint");
  const missing = realms.find((realm) => realm.unavailable);
  if (hint) {
    hint.textContent = missing ? `${missing.name}: ${missing.unavailable}.` : "";
    hint.hidden = !missing;
    if (missing) select.setAttribute("aria-describedby", hint.id);
    else select.removeAttribute("aria-describedby");
  }
  nameRealm(select);
}

/** The same rule as the server's. */
function label({ name, comment = "" }: Realm): string {
  const letters = [...comment];
  if (letters.length === 0) return name;
  const text = letters.length > maxComment ? `${letters.slice(0, maxComment - 1).join("")}…` : comment;
  return `${name} · ${text}`;
}
