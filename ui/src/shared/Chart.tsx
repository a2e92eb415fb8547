// A chart by uPlot, in the colours of Airflow's page.
import { useEffect, useRef } from "react";
import uPlot from "uplot";

import { formatNumber, formatTick, formatTime, timeZone } from "./format";
import { useColorMode } from "./theme";

export interface Series {
  readonly name: string;
  readonly values: readonly (number | null)[];
  /** A colour of the page, by its token. */
  readonly color: string;
}

interface Props {
  /** What the chart shows, for those who do not see it. */
  readonly label: string;
  /** Seconds since the epoch, or whole numbers such as map indexes; in ascending order. */
  readonly x: readonly number[];
  readonly isTime: boolean;
  readonly xName: string;
  readonly series: readonly Series[];
  readonly format?: (value: number, digits?: number) => string;
  readonly onChoose?: (index: number) => void;
}

const HEIGHT = 180;
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];

/** Return a colour of the page as the canvas takes it. */
const color = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(`--chakra-colors-${name}`).trim();

/** Return the horizontal axis for times, written and divided into days as the reader's language and time zone ask for. */
const timeAxis: uPlot.Axis = { space: 120, values: (_, ticks, _axis, _space, spacing) => ticks.map((tick) => formatTick(tick, spacing)) };

/** Return the texts of ticks, with as many digits as it takes to tell them apart. */
const tickTexts = (ticks: readonly number[], format: NonNullable<Props["format"]>) =>
  [3, 4, 5, 6, 7].map((digits) => ticks.map((tick) => format(tick, digits))).find((texts) => new Set(texts).size === texts.length) ??
  ticks.map((tick) => format(tick));

const options = ({ isTime, xName, series, format = formatNumber }: Props, width: number): uPlot.Options => {
  const axis = { stroke: color("fg-muted"), grid: { stroke: color("border"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  const zone = timeZone();
  return {
    width,
    height: HEIGHT,
    ...(zone === undefined ? {} : { tzDate: (seconds: number) => uPlot.tzDate(new Date(seconds * 1000), zone) }),
    scales: { x: { time: isTime } },
    legend: { live: true },
    axes: [isTime ? { ...axis, ...timeAxis } : { ...axis, incrs: STEPS }, { ...axis, size: 76, values: (_, ticks) => tickTexts(ticks, format) }],
    series: [
      { label: xName, value: (_, value) => (value === null ? "–" : isTime ? formatTime(value) : formatNumber(value)) },
      ...series.map((each) => ({
        label: each.name,
        stroke: color(each.color),
        points: { show: true, size: 7, fill: color(each.color) },
        value: (_: uPlot, value: number | null) => (value === null || value === undefined ? "–" : format(value)),
        ...(isTime ? { width: 1.5 } : { paths: () => null }),
      })),
    ],
  };
};

export const Chart = (props: Props) => {
  const { label, x, series, onChoose } = props;
  const place = useRef<HTMLDivElement>(null);
  const mode = useColorMode();
  const drawn = JSON.stringify([x, series, props.isTime]);
  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    const plot = new uPlot(options(props, element.clientWidth), [[...x], ...series.map(({ values }) => [...values])], element);
    const choose = () => {
      if (typeof plot.cursor.idx === "number") onChoose?.(plot.cursor.idx);
    };
    plot.over.addEventListener("click", choose);
    const observer = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.destroy();
    };
  }, [drawn, mode]);
  return <div aria-label={label} className="zen-chart" ref={place} role="img" />;
};
