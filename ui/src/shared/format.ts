// Numbers, sizes and times as Airflow's user reads them.

const language = () => {
  const page = document.documentElement.lang;
  const own = navigator.language;
  return own.startsWith(page) ? own : page;
};

/** Return the time zone that the user chose in Airflow, which keeps it as JSON; undefined is the browser's. */
export const timeZone = (): string | undefined => {
  try {
    const chosen: unknown = JSON.parse(localStorage.getItem("timezone") ?? "null");
    return typeof chosen === "string" && chosen !== "local" ? chosen : undefined;
  } catch {
    return undefined;
  }
};

export const formatNumber = (value: number, digits = 4) =>
  new Intl.NumberFormat(language(), {
    maximumSignificantDigits: Math.max(digits, String(Math.trunc(value)).length),
    signDisplay: "negative",
  }).format(value);

export const formatPercent = (share: number) =>
  new Intl.NumberFormat(language(), { style: "percent", maximumFractionDigits: 0 }).format(share);

const BYTES = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte", "petabyte"];

export const formatBytes = (size: number, digits = 3) => {
  const power = Math.min(Math.floor(Math.log10(Math.max(size, 1)) / 3), BYTES.length - 1);
  return new Intl.NumberFormat(language(), {
    style: "unit",
    unit: BYTES[power] ?? "byte",
    unitDisplay: power === 0 ? "long" : "short",
    maximumSignificantDigits: digits,
  }).format(size / 1000 ** power);
};

const unit = (value: number, name: string, digits = 0) =>
  new Intl.NumberFormat(language(), {
    style: "unit",
    unit: name,
    unitDisplay: "narrow",
    maximumFractionDigits: digits,
  }).format(value);

export const formatSeconds = (seconds: number) => {
  if (seconds < 60) return unit(seconds, "second", seconds < 10 ? 2 : 0);
  const minutes = Math.floor(Math.round(seconds) / 60);
  if (minutes < 60) return `${unit(minutes, "minute")} ${unit(Math.round(seconds) % 60, "second")}`;
  return `${unit(Math.floor(minutes / 60), "hour")} ${unit(minutes % 60, "minute")}`;
};

const inZone = (seconds: number, parts: Intl.DateTimeFormatOptions) => {
  const zone = timeZone();
  return new Intl.DateTimeFormat(language(), { ...parts, ...(zone === undefined ? {} : { timeZone: zone }) }).format(
    new Date(seconds * 1000),
  );
};

/** Return a shape, such as `1000 rows × 19 columns`, with its numbers as the reader writes them. */
export const formatShape = (shape: string) => shape.replace(/(?<![\w.,])\d{4,}(?![\w.,])/g, (digits) => formatNumber(Number(digits)));

/** Return a time given in seconds since the epoch. */
export const formatTime = (seconds: number) => inZone(seconds, { dateStyle: "medium", timeStyle: "medium" });

/** Return a time that is written as ISO 8601, such as a version; another text as it is. */
export const formatIsoTime = (text: string) => {
  const milliseconds = /^\d{4}-\d\d-\d\dT/.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(milliseconds) ? text : formatTime(milliseconds / 1000);
};

/** Return a type's name without Python's own module. */
export const typeName = (type: string) => type.replace(/^builtins\./, "");

/** Return a type's name without its module. */
export const className = (type: string) => type.replace(/^[\w.]*\./, "");

const DAY = 86_400;

/** Return a time as short as the spacing of times in seconds allows: the day, or also the time of day. */
export const formatTick = (seconds: number, spacing: number) =>
  inZone(seconds, {
    month: "short",
    day: "numeric",
    ...(spacing < DAY ? { hour: "numeric", minute: "2-digit" } : { year: "numeric" }),
    ...(spacing < 60 ? { second: "2-digit" } : {}),
  });

/** Whether a metric is what the operating system measured, which comes after the step's own. */
export const isSystemMetric = (name: string) => name.startsWith("system/");
