import { useMemo, useState } from 'react';
import type { RegistryRow } from '@/hooks/useModels';
import { useT, type TextKey } from '@/i18n';
import { formatBytes, formatCount } from '@/lib/format';
import { useNavigation } from '@/stores/navigation';
import { ModelActions } from './ModelActions';

type Column = 'name' | 'family' | 'quantization' | 'n_params' | 'bytes';
/** What a telephone has no room for: it stands in a model's drawer, too. */
const WIDE = 'max-sm:hidden';
const COLUMNS: readonly { key: Column; label: TextKey; numeric: boolean; when?: string }[] = [
  { key: 'name', label: 'models.name', numeric: false },
  { key: 'family', label: 'models.family', numeric: false, when: WIDE },
  { key: 'quantization', label: 'models.quantization', numeric: false, when: WIDE },
  { key: 'n_params', label: 'models.parameters', numeric: true, when: WIDE },
  { key: 'bytes', label: 'models.size', numeric: true, when: WIDE },
];

/** Sorted by a column; those that hold every word of the filter in name, family or quantisation. */
export function arrange(rows: readonly RegistryRow[], filter: string, by: Column, descending: boolean): RegistryRow[] {
  const words = filter.toLowerCase().split(/\s+/);
  const fits = (row: RegistryRow) => {
    const text = `${row.name} ${row.family ?? ''} ${row.quantization ?? ''}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const compare = (a: RegistryRow, b: RegistryRow) => {
    const x = a[by] ?? '';
    const y = b[by] ?? '';
    return typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y));
  };
  const sorted = rows.filter(fits).sort((a, b) => compare(a, b) || a.name.localeCompare(b.name));
  return descending ? sorted.reverse() : sorted;
}

export function RegistryTable({ rows }: { rows: readonly RegistryRow[] }) {
  const t = useT();
  const go = useNavigation((navigation) => navigation.go);
  const [filter, setFilter] = useState('');
  const [by, setBy] = useState<Column>('name');
  const [descending, setDescending] = useState(false);
  const shown = useMemo(() => arrange(rows, filter, by, descending), [rows, filter, by, descending]);

  return (
    <div className="flex flex-col gap-2">
      <input
        type="search"
        aria-label={t('models.filter')}
        placeholder={t('models.filter')}
        value={filter}
        onChange={(event) => setFilter(event.target.value)}
        className="max-w-sm rounded-md border border-line bg-raised px-3 py-1.5"
      />
      <div className="overflow-x-auto rounded-lg border border-line" tabIndex={0} role="region" aria-label={t('nav.models')}>
        <table className="w-full border-collapse text-sm">
          <thead className="bg-panel text-start">
            <tr>
              {COLUMNS.map(({ key, label, numeric, when = '' }) => (
                <th
                  key={key}
                  aria-sort={by === key ? (descending ? 'descending' : 'ascending') : 'none'}
                  className={`px-3 py-2 ${numeric ? 'text-end' : 'text-start'} ${when}`}
                >
                  <button
                    type="button"
                    className="font-medium"
                    onClick={() => {
                      setDescending(by === key && !descending);
                      setBy(key);
                    }}
                  >
                    {t(label)} {by === key ? (descending ? '▾' : '▴') : ''}
                  </button>
                </th>
              ))}
              <th className="px-3 py-2 text-start font-medium">{t('models.state')}</th>
              <th className="px-3 py-2 text-end font-medium">{t('models.actions')}</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((row) => (
              <tr key={`${row.source} ${row.name}`} className="border-t border-line">
                <td className="px-3 py-2">
                  <button
                    type="button"
                    className="text-start font-medium text-accent hover:underline"
                    onClick={() => go({ page: 'models', name: row.name })}
                  >
                    {row.name}
                  </button>
                  {row.alias_of && <span className="ps-2 text-muted">→ {row.alias_of}</span>}
                </td>
                <td className={`px-3 py-2 ${WIDE}`}>{row.family}</td>
                <td className={`px-3 py-2 ${WIDE}`}>{row.quantization}</td>
                <td className={`px-3 py-2 text-end tabular-nums ${WIDE}`}>{row.n_params > 0 && formatCount(row.n_params)}</td>
                <td className={`px-3 py-2 text-end tabular-nums ${WIDE}`}>{formatBytes(row.bytes)}</td>
                <td className="px-3 py-2">
                  {row.why_not ? (
                    <span className="text-danger" title={row.why_not}>
                      {t('models.unusable')}
                    </span>
                  ) : row.loaded?.loading ? (
                    t('models.loading')
                  ) : row.loaded ? (
                    t('models.loaded')
                  ) : (
                    <span className="text-muted">{t('models.on_disk')}</span>
                  )}
                </td>
                <td className="px-3 py-2">
                  <ModelActions row={row} />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}
