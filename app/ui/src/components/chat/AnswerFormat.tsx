import { useState } from 'react';
import type { UiParameters } from '@/api/schema';
import { Select } from '@/components/ui/Select';
import { useDraftText } from '@/hooks/useDraftText';
import { useT } from '@/i18n';

export type Format = NonNullable<UiParameters['response_format']>;
const FORMATS = ['text', 'json_object', 'json_schema'] as const;
const EXAMPLE = { type: 'object', properties: { answer: { type: 'string' } }, required: ['answer'] };

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Undefined: it is no schema. */
export function schemaOf(text: string): Record<string, unknown> | undefined {
  try {
    const found: unknown = JSON.parse(text);
    return isObject(found) ? found : undefined;
  } catch {
    return undefined;
  }
}

interface Props {
  value: Format | null;
  onChange: (format: Format | null) => void;
}

/** Whether answers are text, JSON, or JSON of a schema: the engine then makes nothing else. */
export function AnswerFormat({ value, onChange }: Props) {
  const t = useT();
  const kept = value?.type === 'json_schema' ? JSON.stringify(value.json_schema.schema, null, 2) : '';
  const [text, setText] = useDraftText(kept);
  const [wrong, setWrong] = useState(false);
  const choose = (schema: Record<string, unknown>) => onChange({ type: 'json_schema', json_schema: { name: 'answer', schema } });
  const type = value?.type ?? 'text';
  return (
    <div className="flex flex-col gap-2 text-sm md:col-span-2">
      <label className="flex items-center gap-2">
        {t('format')}
        <Select
          value={type}
          options={FORMATS.map((one) => [one, t(`format.${one}`)])}
          onChange={(one) => {
            setWrong(false);
            if (one === 'json_schema') choose(EXAMPLE);
            else onChange(one === 'json_object' ? { type: one } : null);
          }}
          size={8}
        />
      </label>
      {type === 'json_schema' && (
        <label className="flex flex-col gap-1">
          {t('format.schema')}
          <textarea
            rows={6}
            spellCheck={false}
            value={text}
            aria-invalid={wrong}
            onChange={({ target }) => setText(target.value)}
            onBlur={() => {
              const schema = schemaOf(text);
              setWrong(!schema);
              if (schema && text !== kept) choose(schema);
            }}
            className="rounded-md border border-line bg-ground p-2 font-mono text-xs"
          />
          {wrong && (
            <span role="alert" className="text-danger">
              {t('format.wrong')}
            </span>
          )}
        </label>
      )}
    </div>
  );
}
