import { useVirtualizer } from '@tanstack/react-virtual';
import { useEffect, useMemo, useRef, type ReactNode } from 'react';

const NEAR_PX = 80;

interface Props {
  label: string;
  count: number;
  /** Of a row that was not drawn yet. */
  estimatePx: number;
  /** Rows that are drawn though they are just out of sight. */
  overscan: number;
  /** The same function as long as the rows are the same list: another one has all heights added up anew. */
  keyOf: (at: number) => string | number;
  row: (at: number) => ReactNode;
  /** Changes when rows do, even where they are no more and no higher than before. */
  version: unknown;
  className: string;
  /** New rows are not read aloud: there are too many, and they come unasked. */
  quiet?: boolean;
  /** Above the rows. */
  children?: ReactNode;
}

// Not among components/ui, which every page loads at once: this brings what is large.
/** Rows of which only those in sight are in the page. Stays at the end while they grow, unless somebody has scrolled up. */
export function TailList({ label, count, estimatePx, overscan, keyOf, row, version, className, quiet, children }: Props) {
  const scroller = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  // A list that is full keeps its length while its rows move up: then the keys are others, too.
  const { keyOf: getItemKey } = useMemo(() => ({ keyOf: (at: number) => keyOf(at), version }), [keyOf, version]);
  // eslint-disable-next-line react-hooks/incompatible-library
  const virtual = useVirtualizer({ count, getScrollElement: () => scroller.current, estimateSize: () => estimatePx, overscan, getItemKey });
  const total = virtual.getTotalSize();

  useEffect(() => {
    const element = scroller.current;
    if (element && atEnd.current) element.scrollTop = element.scrollHeight;
  }, [total, version]);

  return (
    <div
      ref={scroller}
      role="log"
      {...(quiet ? { 'aria-live': 'off' as const } : {})}
      aria-label={label}
      tabIndex={0}
      className={`min-h-0 grow ${className}`}
      onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
        atEnd.current = scrollHeight - scrollTop - clientHeight < NEAR_PX;
      }}
    >
      {children}
      <div className="relative w-full" style={{ height: total }}>
        {virtual.getVirtualItems().map(({ key, index, start }) => (
          <div
            key={key}
            ref={virtual.measureElement}
            data-index={index}
            className="absolute inset-x-0 top-0"
            style={{ transform: `translateY(${start}px)` }}
          >
            {row(index)}
          </div>
        ))}
      </div>
    </div>
  );
}
