import { Select } from '@/components/ui/Select';
import { canChat, useModels, type RegistryRow } from '@/hooks/useModels';
import { useT } from '@/i18n';

interface Props {
  value: string;
  onChange: (model: string) => void;
  label?: string;
  /** For a chat: models that cannot take part in one come last, and are marked. */
  chat?: boolean;
}

/** Models that can answer; those in memory are marked. */
export function ModelSelector({ value, onChange, label, chat = false }: Props) {
  const t = useT();
  const { rows = [] } = useModels();
  const fits = (row: RegistryRow) => !chat || canChat(row);
  const usable = rows.filter((row) => !row.why_not).sort((one, other) => Number(fits(other)) - Number(fits(one)));
  const known = usable.some((row) => row.name === value);
  const options = usable.map((row) => {
    const name = `${row.loaded ? '● ' : ''}${row.name}`;
    return [row.name, fits(row) ? name : t('chat.no_template', { name })] as const;
  });
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
