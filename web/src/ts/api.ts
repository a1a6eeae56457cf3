// The JSON API, for what the pages' scripts do themselves.

import { answered, sitePath } from "./connection";

/** A refusal, in words that may be shown. */
export class Refusal extends Error {
  constructor(
    message: string,
    readonly code: string,
  ) {
    super(message);
  }
}

interface Problem {
  detail?: string;
  code?: string;
  hint?: string;
  errors?: { field: string; message: string }[];
}

/** Calls the API. What it refuses, and that there is no answer, is thrown as a Refusal. */
export async function call<T>(method: "GET" | "POST", path: string, body?: unknown): Promise<T> {
  let response: Response;
  try {
    const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
    response = await fetch(sitePath(path), { method, cache: "no-store", ...sent });
  } catch {
    throw new Refusal("No connection to Berth.", "no_connection");
  }
  if (!answered(response)) throw new Refusal("You have been signed out.", "signed_out");
  if (response.ok) return (await response.json()) as T;
  const problem = (await response.json().catch(() => ({}))) as Problem;
  const words = problem.errors?.map((e) => e.message).join(". ") || problem.detail || `Berth answered with status ${response.status}.`;
  throw new Refusal([words, problem.hint].filter(Boolean).join(" "), problem.code ?? "");
}
