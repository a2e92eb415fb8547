import { useSearchParams } from "react-router-dom";

/** Return a value of the address's query and what sets values of it, so that a link shows the same. */
export const useQuery = () => {
  const [query, setQuery] = useSearchParams();
  const set = (values: Readonly<Record<string, string>>) =>
    setQuery(
      (last) => {
        const next = new URLSearchParams(last);
        for (const [name, value] of Object.entries(values)) {
          if (value === "") next.delete(name);
          else next.set(name, value);
        }
        return next;
      },
      { replace: true },
    );
  return [(name: string) => query.get(name) ?? "", set] as const;
};
