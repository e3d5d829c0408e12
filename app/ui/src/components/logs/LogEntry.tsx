import { Icon } from '@/components/ui/Icon';
import type { LogLine } from '@/stores/logs';

const COMMON = new Set(['seq', 'time', 'level', 'part', 'message']);
const tints = { error: 'text-danger', warn: 'text-warn-text', info: 'text-accent', debug: 'text-muted' };

/** A line of the log; opened, it shows what came with it, and traces line by line. */
export function LogEntry({ line, open, onToggle }: { line: LogLine; open: boolean; onToggle: () => void }) {
  const context = Object.entries(line).filter(([name]) => !COMMON.has(name));
  return (
    <div className="border-b border-line font-mono text-xs" data-level={line.level}>
      <button type="button" aria-expanded={open} onClick={onToggle} className="flex w-full flex-wrap items-start gap-x-3 px-3 py-1 text-start hover:bg-panel sm:flex-nowrap">
        <Icon name={open ? 'down' : 'forward'} className="mt-0.5 text-muted" />
        <time dateTime={line.time} className="shrink-0 text-muted">
          {line.time.slice(11, 23)}
        </time>
        <span className={`w-10 shrink-0 font-semibold ${tints[line.level]}`}>{line.level}</span>
        <span className="w-20 shrink-0 truncate text-muted">{line.part}</span>
        {/* On a telephone what the line says has a line of its own. */}
        <span className={`min-w-0 basis-full sm:basis-auto ${open ? 'wrap-anywhere whitespace-pre-wrap' : 'truncate'}`}>{line.message}</span>
      </button>
      {open && (
        <dl className="grid grid-cols-[auto_1fr] gap-x-4 gap-y-0.5 bg-code px-10 py-2">
          {[['time', line.time], ['seq', line.seq], ...context].map(([name, value]) => (
            <div key={String(name)} className="contents">
              <dt className="text-muted">{String(name)}</dt>
              <dd className="break-words whitespace-pre-wrap">{typeof value === 'string' ? value : JSON.stringify(value)}</dd>
            </div>
          ))}
        </dl>
      )}
    </div>
  );
}
