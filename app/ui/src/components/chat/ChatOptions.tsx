import type { UiParameters } from '@/api/schema';
import { useDraftText } from '@/hooks/useDraftText';
import { useT } from '@/i18n';
import { AnswerFormat } from './AnswerFormat';
import { PresetBar } from './PresetBar';
import { SamplingControls } from './SamplingControls';

/** What a chat's answers are made with, beside the model. */
export interface Draft {
  system: string;
  parameters: UiParameters;
}

interface Props {
  value: Draft;
  model: string;
  onChange: (fields: Partial<Draft> & { model?: string }) => void;
}

/** System prompt, parameters, the form of answers, and presets of all these. */
export default function ChatOptions({ value, model, onChange }: Props) {
  const t = useT();
  const [system, setSystem] = useDraftText(value.system);
  const set = (fields: Record<string, unknown>) => {
    const merged = Object.entries({ ...value.parameters, ...fields });
    onChange({ parameters: Object.fromEntries(merged.filter(([, one]) => one !== null)) });
  };
  return (
    <div className="grid max-h-[60vh] gap-3 overflow-auto border-b border-line bg-panel px-4 py-3 md:grid-cols-2">
      <PresetBar
        value={value}
        model={model}
        onChoose={({ system: words, parameters, model: name }) => onChange({ system: words, parameters, ...(name ? { model: name } : {}) })}
      />
      <label className="flex flex-col gap-1 text-sm">
        {t('chat.system')}
        <textarea
          rows={4}
          value={system}
          onChange={({ target }) => setSystem(target.value)}
          onBlur={() => system !== value.system && onChange({ system })}
          className="rounded-md border border-line bg-ground p-2"
        />
      </label>
      <SamplingControls value={value.parameters} onChange={set} />
      <AnswerFormat value={value.parameters.response_format ?? null} onChange={(response_format) => set({ response_format })} />
    </div>
  );
}
