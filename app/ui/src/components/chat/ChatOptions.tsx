import type { UiParameters } from '@/api/schema';
import { useWritten } from '@/hooks/useWritten';
import { useT } from '@/i18n';
import { changeDraft } from '@/stores/drafts';
import { AnswerFormat, schemaKey } from './AnswerFormat';
import { PresetBar } from './PresetBar';
import { SamplingControls } from './SamplingControls';
import { WrittenText } from './WrittenText';

/** What a chat's answers are made with, beside the model. */
export interface Draft {
  system: string;
  parameters: UiParameters;
}

interface Props {
  /** null: one that is not begun yet. */
  chat: number | null;
  value: Draft;
  model: string;
  /** Fails where the daemon does not take it, and tells that. */
  onChange: (fields: Partial<Draft> & { model?: string }) => Promise<unknown>;
  /** The same; these alone, null takes one away. */
  onParameters: (fields: Readonly<Record<string, unknown>>) => Promise<unknown>;
}

/** Where it has been told what became of it. */
const told = (change: Promise<unknown>) => void change.catch(() => undefined);

/** System prompt, parameters, the form of answers, and presets of all these. */
export default function ChatOptions({ chat, value, model, onChange, onParameters }: Props) {
  const t = useT();
  const systemKey = `text system ${chat ?? 'new'}` as const;
  const system = useWritten(systemKey, value.system, (words) => onChange({ system: words }));
  return (
    <div className="grid max-h-[60vh] gap-3 overflow-auto border-b border-line bg-panel px-4 py-3 md:grid-cols-2">
      <PresetBar
        value={value}
        model={model}
        onChoose={({ system: words, parameters, model: name }) => {
          // It is chosen in place of what was written.
          for (const key of [systemKey, schemaKey(chat)]) changeDraft(key, () => undefined);
          told(onChange({ system: words, parameters, ...(name ? { model: name } : {}) }));
        }}
      />
      <WrittenText label={t('chat.system')} written={system} rows={4} />
      <SamplingControls value={value.parameters} onChange={(fields) => told(onParameters(fields))} />
      <AnswerFormat
        chat={chat}
        value={value.parameters.response_format ?? null}
        onChange={(response_format) => onParameters({ response_format })}
      />
    </div>
  );
}
