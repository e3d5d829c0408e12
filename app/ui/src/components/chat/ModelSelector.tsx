import { useModels } from '@/hooks/useModels';
import { useT } from '@/i18n';

interface Props {
  value: string;
  onChange: (model: string) => void;
  label?: string;
}

/** Models that can answer; those in memory are marked. */
export function ModelSelector({ value, onChange, label }: Props) {
  const t = useT();
  const { rows = [] } = useModels();
  const usable = rows.filter((row) => !row.why_not);
  const known = usable.some((row) => row.name === value);
  return (
    <select
      aria-label={label ?? t('chat.model')}
      value={value}
      onChange={(event) => onChange(event.target.value)}
      className="max-w-72 min-h-8 rounded-md border border-line bg-raised px-2 text-sm"
    >
      {!known && <option value={value}>{value || t('chat.no_model')}</option>}
      {usable.map((row) => (
        <option key={row.name} value={row.name}>
          {row.loaded ? '● ' : ''}
          {row.name}
        </option>
      ))}
    </select>
  );
}
