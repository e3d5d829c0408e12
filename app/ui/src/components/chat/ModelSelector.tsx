import { Select } from '@/components/ui/Select';
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
  const options = usable.map((row) => [row.name, `${row.loaded ? '● ' : ''}${row.name}`] as const);
  return (
    <Select
      label={label ?? t('chat.model')}
      value={value}
      options={known ? options : [[value, value || t('chat.no_model')], ...options]}
      onChange={onChange}
      size={8}
      className="max-w-[min(20rem,100%)] min-w-40"
    />
  );
}
