import { useCallback, useDeferredValue, useEffect, useState } from 'react';
import { controlClass, Select } from '@/components/ui/Select';
import { TailList } from '@/components/TailList';
import { useT } from '@/i18n';
import { LEVELS, useLogs } from '@/stores/logs';
import { LogEntry } from './LogEntry';

/** The tail of the daemon's log: only what is in sight is in the page; stays at the end unless somebody scrolls up. */
export default function LogViewer() {
  const t = useT();
  const { shown, version, n, parts, filter, lost, error, setFilter, follow } = useLogs();
  const { level, part } = filter;
  const [text, setText] = useState(filter.text);
  const [opened, setOpened] = useState<ReadonlySet<number>>(new Set());
  const wanted = useDeferredValue(text);

  useEffect(() => {
    const gone = new AbortController();
    void follow(gone.signal);
    return () => gone.abort();
  }, [follow]);

  useEffect(() => {
    const { filter: now } = useLogs.getState();
    if (now.text !== wanted) setFilter({ ...now, text: wanted });
  }, [wanted, setFilter]);

  const keyOf = useCallback((at: number) => shown.at(at)?.seq ?? at, [shown]);
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
      <TailList
        label={t('nav.logs')}
        count={shown.length}
        estimatePx={26}
        overscan={12}
        keyOf={keyOf}
        version={version}
        quiet
        className="overflow-auto rounded-lg border border-line bg-raised"
        row={(at) => {
          const line = shown.at(at);
          return line && <LogEntry line={line} open={opened.has(line.seq)} onToggle={() => toggle(line.seq)} />;
        }}
      >
        {shown.length === 0 && <p className="p-6 text-center text-muted">{t('logs.nothing')}</p>}
      </TailList>
    </div>
  );
}
