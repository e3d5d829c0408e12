import type { UiParameters } from '@/api/schema';
import { useDraftText } from '@/hooks/useDraftText';
import { useT, type TextKey } from '@/i18n';

interface Field {
  key: 'temperature' | 'top_p' | 'top_k' | 'min_p' | 'max_tokens' | 'seed';
  label: TextKey;
  min: number;
  max: number;
  step: number;
}
const FIELDS: readonly Field[] = [
  { key: 'temperature', label: 'sampling.temperature', min: 0, max: 2, step: 0.05 },
  { key: 'top_p', label: 'sampling.top_p', min: 0, max: 1, step: 0.01 },
  { key: 'top_k', label: 'sampling.top_k', min: 0, max: 1000, step: 1 },
  { key: 'min_p', label: 'sampling.min_p', min: 0, max: 1, step: 0.01 },
  { key: 'max_tokens', label: 'sampling.max_tokens', min: 1, max: 1_000_000, step: 1 },
  { key: 'seed', label: 'sampling.seed', min: 0, max: 2_147_483_647, step: 1 },
];

interface Props {
  value: UiParameters;
  /** A field that is emptied is given as null: the chat's value is taken away. */
  onChange: (change: Record<string, number | null>) => void;
}

function NumberField({ field: { key, label, min, max, step }, value, onChange }: { field: Field; value: unknown; onChange: Props['onChange'] }) {
  const t = useT();
  const [text, setText] = useDraftText(typeof value === 'number' ? String(value) : '');
  return (
    <label className="flex items-center justify-between gap-2">
      {t(label)}
      <input
        type="number"
        min={min}
        max={max}
        step={step}
        placeholder={t('sampling.default')}
        value={text}
        onChange={({ target }) => setText(target.value)}
        onBlur={({ currentTarget: { validity } }) => {
          const next = text === '' ? null : Number(text);
          if (validity.valid && next !== (value ?? null)) onChange({ [key]: next });
        }}
        className="w-28 rounded-md border border-line bg-ground px-2 py-1"
      />
    </label>
  );
}

export function SamplingControls({ value, onChange }: Props) {
  const t = useT();
  const values = value as Readonly<Record<string, unknown>>;
  return (
    <fieldset className="grid grid-cols-2 gap-x-4 gap-y-2 text-sm">
      <legend className="pb-1 font-medium">{t('sampling.title')}</legend>
      {FIELDS.map((field) => (
        <NumberField key={field.key} field={field} value={values[field.key]} onChange={onChange} />
      ))}
    </fieldset>
  );
}
