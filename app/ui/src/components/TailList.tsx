import { useVirtualizer } from '@tanstack/react-virtual';
import { useEffect, useRef, type ReactNode } from 'react';

const NEAR_PX = 80;

interface Props {
  label: string;
  count: number;
  /** Of a row that was not drawn yet. */
  estimatePx: number;
  /** Rows that are drawn though they are just out of sight. */
  overscan: number;
  keyOf: (at: number) => string | number;
  row: (at: number) => ReactNode;
  /** Changes when rows do, even where they are no more and no higher than before. */
  version: unknown;
  className: string;
  /** Above the rows. */
  children?: ReactNode;
}

// Not among components/ui, which every page loads at once: this brings what is large.
/** Rows of which only those in sight are in the page. Stays at the end while they grow, unless somebody has scrolled up. */
export function TailList({ label, count, estimatePx, overscan, keyOf, row, version, className, children }: Props) {
  const scroller = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  // eslint-disable-next-line react-hooks/incompatible-library
  const virtual = useVirtualizer({ count, getScrollElement: () => scroller.current, estimateSize: () => estimatePx, overscan, getItemKey: keyOf });
  const total = virtual.getTotalSize();

  useEffect(() => {
    const element = scroller.current;
    if (element && atEnd.current) element.scrollTop = element.scrollHeight;
  }, [total, version]);

  return (
    <div
      ref={scroller}
      role="log"
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
