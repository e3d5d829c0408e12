import { useEffect, useRef } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { useSetting } from '@/stores/preferences';

export type Colour = 'accent' | 'hl-title' | 'hl-number' | 'hl-key';
const squares: Record<Colour, string> = {
  accent: 'bg-[var(--accent)]', 'hl-title': 'bg-[var(--hl-title)]', 'hl-number': 'bg-[var(--hl-number)]', 'hl-key': 'bg-[var(--hl-key)]',
}; // prettier-ignore

export interface Line {
  label: string;
  colour: Colour;
  values: readonly (number | null)[];
}

interface Props {
  /** What the picture shows, for who cannot see it. */
  label: string;
  x: readonly number[];
  /** What stands below the places of x; none: they are seconds since 1970. */
  names?: (x: number) => string;
  lines: readonly Line[];
  format: (value: number) => string;
  bars?: boolean;
  max?: number;
  /** What may lie between two lines of the grid; none: decimal steps. */
  steps?: readonly number[];
}

const HEIGHT_PX = 190;
// Of the theme that is on when it is drawn.
const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);

/** A picture by uPlot; its newest values stand below it as text. */
export function Chart({ label, x, names, lines, format, bars = false, max, steps }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(null);
  const texts = useRef({ names, format });
  const theme = useSetting('theme');
  const shape = JSON.stringify([lines.map(({ label: name, colour }) => [name, colour]), bars, max, steps]);

  useEffect(() => {
    texts.current = { names, format };
  });
  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const [series, asBars, top, incrs] = JSON.parse(shape) as [[string, Colour][], boolean, number | null, number[] | null];
    const paths = uPlot.paths.bars?.({ size: [0.8, 60] });
    const axis = { stroke: () => css('muted'), grid: { stroke: () => css('line'), width: 1 }, ticks: { show: false } };
    const made = new uPlot(
      {
        width: element.clientWidth || 400,
        height: HEIGHT_PX,
        legend: { show: false },
        cursor: { show: false },
        scales: {
          x: { time: !asBars, ...(asBars ? { range: (_, low, high) => [low - 0.5, high + 0.5] } : {}) },
          y: { range: (_, __, high) => [0, top ?? (high > 0 ? high * 1.1 : 1)] },
        },
        axes: [
          asBars ? { ...axis, grid: { show: false }, values: (_, at) => at.map((one) => (Number.isInteger(one) ? (texts.current.names?.(one) ?? String(one)) : '')) } : axis,
          { ...axis, size: 72, ...(incrs ? { incrs } : {}), values: (_, at) => at.map((one) => texts.current.format(one)) },
        ],
        series: [
          {},
          ...series.map(([name, colour]) => ({
            label: name,
            stroke: () => css(colour),
            width: asBars ? 0 : 2,
            points: { show: false },
            ...(asBars ? { fill: () => css(colour), ...(paths ? { paths } : {}) } : {}),
          })),
        ],
      },
      [[], ...series.map(() => [])],
      element,
    );
    plot.current = made;
    const watcher = new ResizeObserver(() => made.setSize({ width: element.clientWidth || 400, height: HEIGHT_PX }));
    watcher.observe(element);
    return () => {
      watcher.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => {
    plot.current?.setData([[...x], ...lines.map(({ values }) => [...values])]);
  }, [x, lines, shape, theme]);

  return (
    <figure>
      <div ref={place} role="img" aria-label={label} className="w-full overflow-hidden" />
      {!bars && (
        <figcaption className="flex flex-wrap gap-x-5 text-sm">
          {lines.map(({ label: name, colour, values }) => {
            const newest = values.findLast((value) => value !== null);
            return (
              <span key={name} className="flex items-center gap-1.5">
                <span aria-hidden="true" className={`size-2.5 rounded-sm ${squares[colour]}`} />
                <span className="text-muted">{name}</span>
                <span className="tabular-nums">{newest === undefined ? '–' : format(newest)}</span>
              </span>
            );
          })}
        </figcaption>
      )}
    </figure>
  );
}
