import type { UiParameters } from '@/api/schema';
import { Select } from '@/components/ui/Select';
import { useWritten } from '@/hooks/useWritten';
import { useT } from '@/i18n';
import { changeDraft, useDraft } from '@/stores/drafts';
import { WrittenText } from './WrittenText';

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
  /** null: one that is not begun yet. */
  chat: number | null;
  value: Format | null;
  /** Fails where the daemon does not take it, and tells that. */
  onChange: (format: Format | null) => Promise<unknown>;
}

/** Of what is written of the schema, and not taken yet. */
export const schemaKey = (chat: number | null) => `text schema ${chat ?? 'new'}` as const;
const bound = (schema: Record<string, unknown>): Format => ({ type: 'json_schema', json_schema: { name: 'answer', schema } });

/** Whether answers are text, JSON, or JSON of a schema: the engine then makes nothing else. */
export function AnswerFormat({ chat, value, onChange }: Props) {
  const t = useT();
  const kept = value?.type === 'json_schema' ? JSON.stringify(value.json_schema.schema, null, 2) : '';
  const key = schemaKey(chat);
  const lastKey = `text last-schema ${chat ?? 'new'}` as const;
  const last = useDraft(lastKey);
  const written = useWritten(key, kept, (words) => {
    const schema = schemaOf(words);
    return schema ? onChange(bound(schema)) : Promise.reject(new Error(t('format.wrong')));
  });
  const choose = (one: (typeof FORMATS)[number]) => {
    // Somebody who comes back to it finds what he had written. That lies apart: what is shown is the chat's own.
    const text = written.text || last?.text;
    changeDraft(lastKey, () => (text ? { text } : undefined));
    const schema = schemaOf(text ?? '');
    // But what is no schema is there to be put right.
    const wrong = one === 'json_schema' && !schema ? text : undefined;
    changeDraft(key, () => (wrong ? { text: wrong, error: t('format.wrong') } : undefined));
    const format = one === 'json_schema' ? bound(schema ?? EXAMPLE) : one === 'json_object' ? { type: one } : null;
    void onChange(format).catch(() => undefined);
  };
  const type = value?.type ?? 'text';
  return (
    <div className="flex flex-col gap-2 text-sm md:col-span-2">
      <label className="flex items-center gap-2">
        {t('format')}
        <Select
          value={type}
          options={FORMATS.map((one) => [one, t(`format.${one}`)])}
          onChange={choose}
          size={8}
        />
      </label>
      {type === 'json_schema' && (
        <WrittenText label={t('format.schema')} written={written} rows={6} code />
      )}
    </div>
  );
}
