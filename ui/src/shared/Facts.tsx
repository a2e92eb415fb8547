import type { ReactNode } from "react";

/** Show pairs of a name and a value, without those that have no value. */
export const Facts = ({ facts }: { readonly facts: readonly (readonly [name: string, value: ReactNode])[] }) => {
  const known = facts.filter(([, value]) => value !== "" && value !== null && value !== undefined && value !== false);
  return known.length === 0 ? null : (
    <dl className="zen-facts">
      {known.map(([name, value]) => (
        <div key={name} style={{ display: "contents" }}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
};
