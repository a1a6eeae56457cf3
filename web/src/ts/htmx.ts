// What this program uses of htmx's requests, and the one way in which it listens to them.

export interface Context {
  sourceElement: Element;
  select?: string;
  text?: string;
  request: { action: string; method: string; body: FormData | URLSearchParams | null; form?: HTMLFormElement | null };
  response?: { raw: Response; status: number; headers: Headers };
}

interface Task {
  type: string;
  fragment: DocumentFragment;
}

interface Detail {
  ctx: Context;
  tasks: Task[];
}

/** Calls back on an htmx event anywhere in the page; false from the callback cancels what the event announces. */
export function on(name: string, callback: (detail: Detail) => boolean | void): void {
  document.addEventListener(name, (event) => {
    if (callback((event as CustomEvent<Detail>).detail) === false) event.preventDefault();
  });
}
