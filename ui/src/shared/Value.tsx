import { formatNumber } from "./format";

// A longer text takes the browser seconds to draw.
const LONGEST = 2000;

/** Return a value of JSON as text: a text as it is, a number as the reader's locale writes it. */
export const valueText = (value: unknown): string => {
  if (typeof value === "string") return value;
  if (typeof value === "number") return formatNumber(value, 6);
  return JSON.stringify(value) ?? "";
};

/** Show a value of JSON, the beginning of a long one. */
export const Value = ({ value }: { readonly value: unknown }) => {
  if (value === null || value === undefined) return <span className="zen-muted">–</span>;
  const text = valueText(value);
  return (
    <span className="zen-value">
      {text.slice(0, LONGEST)}
      {text.length > LONGEST ? <span className="zen-muted"> … {formatNumber(text.length)} characters</span> : null}
    </span>
  );
};
