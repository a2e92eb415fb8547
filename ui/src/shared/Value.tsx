import { formatNumber } from "./format";

// A longer text takes the browser seconds to draw.
const LONGEST = 2000;
const MAX_DEPTH = 3;

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Return a value of JSON as text: a text as it is, a number as the reader's locale writes it, a list with commas. */
export const valueText = (value: unknown): string => {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value;
  if (typeof value === "number") return formatNumber(value, 6);
  if (typeof value === "boolean") return String(value);
  if (Array.isArray(value) && !value.some((each) => typeof each === "object" && each !== null)) return value.map(valueText).join(", ");
  return JSON.stringify(value, null, 2);
};

const DIGEST = /^[0-9a-f]{64}$/;

/** Show a digest by its beginning, by which it is recognised; another text as it is. */
export const Digest = ({ text }: { readonly text: string }) => <span title={text}>{DIGEST.test(text) ? `${text.slice(0, 12)}…` : text}</span>;

/** Show a value of JSON: an object as a list of its facts, the beginning of a long text. */
export const Value = ({ value, depth = 0 }: { readonly value: unknown; readonly depth?: number }) => {
  if (value === null || value === undefined) return <span className="zen-muted">–</span>;
  if (isObject(value) && depth < MAX_DEPTH && Object.keys(value).length > 0) {
    return (
      <dl className="zen-facts">
        {Object.entries(value).map(([name, each]) => (
          <div key={name} style={{ display: "contents" }}>
            <dt>{name}</dt>
            <dd>
              <Value depth={depth + 1} value={each} />
            </dd>
          </div>
        ))}
      </dl>
    );
  }
  const text = valueText(value);
  return (
    <span className="zen-value" title={text.length > 20 ? text.slice(0, LONGEST) : undefined}>
      {text.slice(0, LONGEST)}
      {text.length > LONGEST ? <span className="zen-muted"> … {formatNumber(text.length)} characters</span> : null}
    </span>
  );
};
