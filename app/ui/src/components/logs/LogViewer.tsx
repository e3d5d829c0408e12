import { useVirtualizer } from '@tanstack/react-virtual';
import { useDeferredValue, useEffect, useRef, useState } from 'react';
import { controlClass, Select } from '@/components/ui/Select';
import { useT } from '@/i18n';
import { LEVELS, useLogs } from '@/stores/logs';
import { LogEntry } from './LogEntry';

const NEAR_PX = 60;

/** The tail of the daemon's log: only what is in sight is in the page; stays at the end unless somebody scrolls up. */
export default function LogViewer() {
  const t = useT();
  const { shown, version, n, parts, filter, lost, error, setFilter, follow } = useLogs();
  const { level, part } = filter;
  const [text, setText] = useState(filter.text);
  const [opened, setOpened] = useState<ReadonlySet<number>>(new Set());
  const wanted = useDeferredValue(text);
  const scroller = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);

  useEffect(() => {
    const gone = new AbortController();
    void follow(gone.signal);
    return () => gone.abort();
  }, [follow]);

  useEffect(() => {
    const { filter: now } = useLogs.getState();
    if (now.text !== wanted) setFilter({ ...now, text: wanted });
  }, [wanted, setFilter]);

  // eslint-disable-next-line react-hooks/incompatible-library
  const virtual = useVirtualizer({
    count: shown.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => 26,
    overscan: 12,
    getItemKey: (at) => shown.at(at)?.seq ?? at,
  });
  const total = virtual.getTotalSize();
  useEffect(() => {
    const element = scroller.current;
    if (element && atEnd.current) element.scrollTop = element.scrollHeight;
  }, [total, version]);
  const toggle = (seq: number) => {
    const next = new Set(opened);
    if (!next.delete(seq)) next.add(seq);
    setOpened(next);
  };

  return (
    <div className="flex h-full flex-col gap-3 p-4">
      <div className="flex flex-wrap items-center gap-3">
        <h1 className="text-xl font-semibold">{t('nav.logs')}</h1>
        <input
          type="search"
          aria-label={t('logs.filter')}
          placeholder={t('logs.filter')}
          value={text}
          onChange={({ target }) => setText(target.value)}
          className={`${controlClass(9)} w-64`}
        />
        <Select
          label={t('logs.level')}
          value={level}
          options={LEVELS.map((one) => [one, one])}
          onChange={(one) => setFilter({ ...filter, level: one })}
          size={9}
        />
        <Select
          label={t('logs.part')}
          value={part}
          options={[['', t('logs.all_parts')], ...parts.map((one) => [one, one] as const)]}
          onChange={(one) => setFilter({ ...filter, part: one })}
          size={9}
        />
        <span className="grow" />
        <span role="status" className="text-sm text-muted">
          {t('logs.count', { shown: shown.length, all: n })}
          {lost > 0 && ` · ${t('logs.lost', { n: lost })}`}
        </span>
      </div>
      {error && <p className="text-danger">{error}</p>}
      <div
        ref={scroller}
        role="log"
        aria-label={t('nav.logs')}
        tabIndex={0}
        className="min-h-0 grow overflow-auto rounded-lg border border-line bg-raised"
        onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
          atEnd.current = scrollHeight - scrollTop - clientHeight < NEAR_PX;
        }}
      >
        {shown.length === 0 && <p className="p-6 text-center text-muted">{t('logs.nothing')}</p>}
        <div className="relative w-full" style={{ height: total }}>
          {virtual.getVirtualItems().map((item) => {
            const line = shown.at(item.index);
            return (
              line && (
                <div
                  key={item.key}
                  ref={virtual.measureElement}
                  data-index={item.index}
                  className="absolute inset-x-0 top-0"
                  style={{ transform: `translateY(${item.start}px)` }}
                >
                  <LogEntry line={line} open={opened.has(line.seq)} onToggle={() => toggle(line.seq)} />
                </div>
              )
            );
          })}
        </div>
      </div>
    </div>
  );
}
