// The picture of a chart by uPlot, which is large and comes after the figures.
import { useEffect, useRef } from 'react';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { useSetting } from '@/stores/preferences';
import type { ChartProps, Colour } from './Chart';

// Of the theme that is on when it is drawn.
const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);

export default function Plot({ label, x, names, lines, format, bars = false, max, steps }: ChartProps) {
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
    // As large as the place that Chart keeps for it.
    const size = () => ({ width: element.clientWidth || 400, height: element.clientHeight || 200 });
    const made = new uPlot(
      {
        ...size(),
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
    const watcher = new ResizeObserver(() => made.setSize(size()));
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

  return <div ref={place} role="img" aria-label={label} className="size-full overflow-hidden" />;
}
