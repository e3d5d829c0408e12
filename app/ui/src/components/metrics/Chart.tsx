import { lazy, Suspense } from 'react';

export type Colour = 'accent' | 'hl-title' | 'hl-number' | 'hl-key';
const squares: Record<Colour, string> = {
  accent: 'bg-[var(--accent)]', 'hl-title': 'bg-[var(--hl-title)]', 'hl-number': 'bg-[var(--hl-number)]', 'hl-key': 'bg-[var(--hl-key)]',
}; // prettier-ignore

export interface Line {
  label: string;
  colour: Colour;
  values: readonly (number | null)[];
}

export interface ChartProps {
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

const Plot = lazy(() => import('./Plot'));

/** A picture, whose place is kept until it has come; its newest values stand below it as text. */
export function Chart(props: ChartProps) {
  const { lines, format, bars = false } = props;
  return (
    <figure>
      <div className="h-[190px]">
        <Suspense>
          <Plot {...props} />
        </Suspense>
      </div>
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
