/** Why something can't be done, by action. */
export type Refusals = ReadonlyMap<string, string>;

/** What a row refuses, as it says in a line for each action. */
export function refusals(row: HTMLElement | null): Refusals {
  const lines = row?.dataset.refused?.split("\n") ?? [];
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]));
}
