import { on } from "./htmx";

/**
 * The sign-in form. While somebody compares a certificate's fingerprint, their password waits here, in the memory of
 * the page: not in storage, and not in the document.
 */
export function startSignIn(): void {
  let password = "";

  const adapt = (): void => {
    const retype = document.querySelector<HTMLElement>("[data-retype]");
    if (!retype) {
      password = "";
      return;
    }
    if (!password) return;
    retype.hidden = true;
    for (const input of retype.querySelectorAll("input")) {
      input.disabled = true;
      input.autofocus = false;
    }
  };

  on("htmx:config:request", ({ ctx }) => {
    const form = ctx.request.form;
    if (!form?.matches("#signin form[data-keep]")) return;
    const typed = form.querySelector<HTMLInputElement>("input[name=password]:enabled");
    if (typed) password = typed.value;
    else ctx.request.body?.set("password", password);
  });
  on("htmx:after:swap", ({ ctx }) => {
    if (ctx.select === "#signin") adapt();
  });
  // An answer without the card (a proxy's error page, say) must not empty the page.
  on("htmx:before:swap", ({ ctx, tasks }) => {
    if (ctx.select !== "#signin") return;
    if (tasks.some((task) => task.type === "main" && !task.fragment.firstElementChild)) {
      alertAbove(ctx.sourceElement, `Berth answered with status ${ctx.response?.status ?? "?"}. Try again in a moment.`);
      return false;
    }
  });
  on("htmx:error", ({ ctx }) => {
    if (ctx?.select === "#signin") alertAbove(ctx.sourceElement, "Berth can't be reached. Check your connection and try again.");
  });

  // A page that comes back from the browser's cache must not remember either.
  window.addEventListener("pagehide", () => {
    password = "";
  });

  // The two kinds of code want different keyboards.
  document.addEventListener("change", (event) => {
    const radio = event.target;
    if (!(radio instanceof HTMLInputElement) || radio.name !== "kind") return;
    const code = document.querySelector<HTMLInputElement>("input[data-code]");
    if (!code) return;
    code.inputMode = radio.value === "totp" ? "numeric" : "text";
    code.value = "";
    code.focus();
  });
}

/** Puts a failure above a form, in the shape that the server gives its own. */
function alertAbove(form: Element, message: string): void {
  form.parentElement?.querySelector(":scope > .notice-bad")?.remove();
  const notice = document.createElement("div");
  notice.className = "notice notice-bad";
  notice.role = "alert";
  const text = document.createElement("p");
  text.className = "notice-title";
  text.textContent = message;
  notice.append(text);
  form.before(notice);
}
