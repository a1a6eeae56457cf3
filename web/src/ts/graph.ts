/** A value is NaN where nothing is known. */
function numbers(text: string | undefined): number[] {
  return text ? text.split(",").map((v) => (v === "" ? NaN : Number(v))) : [];
}

/** Times stand in the page as the first and the steps from each to the next. */
function times(figure: HTMLElement): number[] {
  let at = 0;
  return numbers(figure.dataset.times).map((step) => (at += step));
}

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

function three(value: number): string {
  if (value < 9.995) return value.toFixed(2);
  return value < 99.95 ? value.toFixed(1) : value.toFixed(0);
}

/** Writes a value as the server does. */
function written(value: number, unit: string | undefined): string {
  if (Number.isNaN(value)) return "unknown";
  if (unit === "share") {
    const percent = value * 100;
    return `${percent < 9.95 ? percent.toFixed(1) : percent.toFixed(0)} %`;
  }
  let size = Math.max(value, 0);
  let at = 0;
  while (size >= 999.5 && at < units.length - 1) {
    size /= 1024;
    at++;
  }
  return `${at === 0 ? Math.round(size) : three(size)} ${units[at]}${unit === "rate" ? "/s" : ""}`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "numeric", minute: "2-digit" });

/** Points all graphs at the same share of their width, from 0 to 1; undefined points them nowhere. */
function point(share: number | undefined): void {
  for (const figure of document.querySelectorAll<HTMLElement>("figure.graph")) {
    const moments = times(figure);
    const last = moments.length - 1;
    const cursor = figure.querySelector(".graph-cursor");
    const time = figure.querySelector<HTMLTimeElement>(".graph-time");
    const values = figure.querySelectorAll<HTMLElement>(".graph-value");
    if (!cursor || !time || last < 1) continue;
    const index = share === undefined ? -1 : Math.min(last, Math.max(0, Math.round(share * last)));
    cursor.setAttribute("visibility", index < 0 ? "hidden" : "visible");
    time.hidden = index < 0;
    figure.querySelectorAll<SVGElement>("[data-values]").forEach((series, i) => {
      const out = values[i];
      if (!out) return;
      out.dataset.rest ??= out.textContent ?? "";
      if (index < 0) {
        out.textContent = out.dataset.rest;
        delete out.dataset.rest;
        return;
      }
      const peak = numbers(series.dataset.peaks)[index];
      const most = peak === undefined || Number.isNaN(peak) ? "" : `, highest ${written(peak, figure.dataset.unit)}`;
      out.textContent = written(numbers(series.dataset.values)[index] ?? NaN, figure.dataset.unit) + most;
    });
    if (index < 0) continue;
    const x = `${(index / last) * 100}%`;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    const at = new Date((moments[index] ?? 0) * 1000);
    time.dateTime = at.toISOString();
    time.textContent = day.format(at);
  }
}

/** Writes the hours below the graphs in the time of the browser. */
function localTimes(): void {
  for (const label of document.querySelectorAll<SVGTextElement>(".graph-when[data-unix]")) {
    const unix = Number(label.dataset.unix);
    if (unix > 0) label.textContent = clock.format(new Date(unix * 1000));
  }
}

/** Values under the pointer, or where the arrow keys lead. */
export function startGraphs(): void {
  localTimes();
  document.addEventListener("htmx:after:swap", localTimes);

  let share: number | undefined;
  const plotOf = (event: Event): HTMLElement | null =>
    event.target instanceof Element ? event.target.closest<HTMLElement>(".graph-plot") : null;
  const follow = (event: PointerEvent): void => {
    const plot = plotOf(event);
    if (!plot) {
      if (share !== undefined) point((share = undefined));
      return;
    }
    // The figures beside the lines are no part of them.
    const box = (plot.querySelector("svg") ?? plot).getBoundingClientRect();
    point((share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width))));
  };
  document.addEventListener("pointermove", follow);
  document.addEventListener("pointerdown", follow);
  document.documentElement.addEventListener("pointerleave", () => point((share = undefined)));

  document.addEventListener("keydown", (event) => {
    const plot = plotOf(event);
    if (!plot) return;
    const figure = plot.closest<HTMLElement>("figure.graph");
    const step = 1 / Math.max(1, (figure ? times(figure).length : 1) - 1);
    if (event.key === "ArrowLeft") share = Math.max(0, (share ?? 1 + step) - step);
    else if (event.key === "ArrowRight") share = Math.min(1, (share ?? -step) + step);
    else if (event.key === "Escape") share = undefined;
    else return;
    event.preventDefault();
    point(share);
  });
  document.addEventListener("focusout", (event) => {
    if (plotOf(event)) point((share = undefined));
  });
}
