// Answers of the provider's own routes, for the user who is logged in to Airflow.
import { useEffect, useRef, useState } from "react";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

export interface Answer<T> {
  /** The newest value, kept while a newer one is read. */
  readonly value?: T;
  readonly error?: ApiError;
}

/** Return the address of a route: relative to the page's base, so that it holds under a base path too. */
export const apiUrl = (path: string) => new URL(`zen/api/${path}`, document.baseURI).href;

/** Return a path with each part quoted, and a query of those values that are given. */
export const route = (parts: readonly (string | number)[], query: Record<string, string | number | undefined> = {}) => {
  const given = Object.entries(query).filter((pair): pair is [string, string | number] => pair[1] !== undefined);
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return parts.map((part) => encodeURIComponent(part)).join("/") + (search === "" ? "" : `?${search}`);
};

const detailOf = async (response: Response) => {
  try {
    const { detail } = (await response.json()) as { detail?: unknown };
    return typeof detail === "string" ? detail : JSON.stringify(detail);
  } catch {
    return response.statusText;
  }
};

const read = async <T>(path: string, signal: AbortSignal): Promise<T> => {
  const response = await fetch(apiUrl(path), { credentials: "include", signal, headers: { Accept: "application/json" } });
  if (!response.ok) throw new ApiError(response.status, await detailOf(response));
  return (await response.json()) as T;
};

// Airflow mounts a page a second time soon after the first, and again on each change of tab.
const KEPT = 30;
const kept = new Map<string, unknown>();

const keep = (path: string, value: unknown) => {
  kept.delete(path);
  kept.set(path, value);
  const [oldest] = kept.keys();
  if (kept.size > KEPT && oldest !== undefined) kept.delete(oldest);
};

/** Whether the same request may succeed later. */
const isPassing = ({ status }: ApiError) => status === 0 || status >= 500;

/**
 * Read a route, and again as long as `pollMilliseconds` of the value says; `null` reads nothing.
 * A value stays on the screen while the next one is read, also where that fails: then it is read again in the same time.
 */
export const useApi = <T>(path: string | null, pollMilliseconds: (value: T) => number | undefined = () => undefined) => {
  const [answer, setAnswer] = useState<Answer<T> & { path: string | null }>({ path: null });
  useEffect(() => {
    if (path === null) return undefined;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let last = kept.get(path) as T | undefined;
    const readAgain = () => {
      const wait = last === undefined ? undefined : pollMilliseconds(last);
      if (wait !== undefined) timer = setTimeout(() => void load(), wait);
    };
    const load = async () => {
      try {
        const value = await read<T>(path, abort.signal);
        keep(path, value);
        last = value;
        setAnswer({ path, value });
        readAgain();
      } catch (error) {
        if (abort.signal.aborted) return;
        const problem = error instanceof ApiError ? error : new ApiError(0, String(error));
        setAnswer({ path, error: problem, ...(last === undefined ? {} : { value: last }) });
        if (isPassing(problem)) readAgain();
      }
    };
    void load();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
    // The path names all that the answer depends on.
  }, [path]);
  if (answer.path === path && path !== null) return answer as Answer<T>;
  const value = path === null ? undefined : (kept.get(path) as T | undefined);
  return value === undefined ? {} : { value };
};

/** Keep the last value on the screen while a route with another query is read. */
export const useLast = <T>(answer: Answer<T>): Answer<T> => {
  const last = useRef<T>(undefined);
  if (answer.value !== undefined) last.current = answer.value;
  return last.current === undefined || answer.value !== undefined ? answer : { ...answer, value: last.current };
};
