import { useVirtualizer } from '@tanstack/react-virtual';
import { useEffect, useMemo, useRef } from 'react';
import { useT } from '@/i18n';
import type { Shown } from '@/lib/tree';
import { Message, type MessageActions } from './Message';

const NEAR_PX = 80;

/** Only what is in sight is in the page. Stays at the end while an answer grows, unless somebody has scrolled up. */
export default function MessageList({ shown, actions, label }: { shown: readonly Shown[]; actions: MessageActions; label?: string }) {
  const t = useT();
  const scroller = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const rows = useMemo(() => shown.filter(({ message }) => message.role !== 'tool'), [shown]);
  const results = useMemo(
    () => new Map(shown.map(({ message }) => [message.tool_call_id ?? '', message.content])),
    [shown],
  );
  // eslint-disable-next-line react-hooks/incompatible-library
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => 140,
    overscan: 4,
    getItemKey: (at) => rows[at]?.message.id ?? at,
  });
  const total = virtual.getTotalSize();

  useEffect(() => {
    const element = scroller.current;
    if (element && atEnd.current) element.scrollTop = element.scrollHeight;
  }, [total, rows.length]);

  return (
    <div
      ref={scroller}
      role="log"
      aria-label={label ?? t('chat.messages')}
      tabIndex={0}
      className="min-h-0 grow overflow-y-auto"
      onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
        atEnd.current = scrollHeight - scrollTop - clientHeight < NEAR_PX;
      }}
    >
      <div className="relative w-full" style={{ height: total }}>
        {virtual.getVirtualItems().map((item) => {
          const row = rows[item.index];
          return (
            row && (
              <div
                key={item.key}
                ref={virtual.measureElement}
                data-index={item.index}
                className="absolute inset-x-0 top-0"
                style={{ transform: `translateY(${item.start}px)` }}
              >
                <Message message={row.message} siblings={row.siblings} results={results} actions={actions} />
              </div>
            )
          );
        })}
      </div>
    </div>
  );
}
