import { useState } from 'react';
import type { UiPreset } from '@/api/schema';
import { Button } from '@/components/ui/Button';
import { controlClass, Select } from '@/components/ui/Select';
import { usePresetActions, usePresets } from '@/hooks/usePresets';
import { useT } from '@/i18n';
import { whenConfirmed } from '@/stores/confirmation';
import { useChangeSettings, useSetting } from '@/stores/preferences';
import type { Draft } from './ChatOptions';

interface Props {
  /** What a preset would keep. */
  value: Draft;
  model: string;
  onChoose: (preset: UiPreset) => void;
}

const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);

/** System prompts and parameters under a name: chosen, kept, changed, taken away; one may be what new chats begin with. */
export function PresetBar({ value, model, onChoose }: Props) {
  const t = useT();
  const { data: presets = [] } = usePresets();
  const { add, change, remove } = usePresetActions();
  const byDefault = useSetting('default_preset');
  const changeSettings = useChangeSettings();
  const [chosen, setChosen] = useState<number | null>(null);
  const [name, setName] = useState<string | null>(null);
  // The one that was chosen here, else one that says just this.
  const current =
    presets.find(({ id }) => id === chosen) ?? presets.find(({ system, parameters }) => system === value.system && same(parameters, value.parameters));
  const fields = { system: value.system, parameters: value.parameters };

  return (
    <div className="flex flex-wrap items-center gap-2 md:col-span-2">
      <Select
        label={t('preset')}
        value={current?.id ?? 0}
        options={[[0, t('preset.none')], ...presets.map((preset) => [preset.id, preset.name] as const)]}
        onChange={(id) => {
          const preset = presets.find((one) => one.id === id);
          setChosen(preset?.id ?? null);
          if (preset) onChoose(preset);
        }}
        size={8}
        className="max-w-72"
      />
      {name === null ? (
        <Button small onClick={() => setName('')}>
          {t('preset.add')}
        </Button>
      ) : (
        <form
          className="flex gap-2"
          onSubmit={(event) => {
            event.preventDefault();
            add.mutate({ ...fields, model, name: name.trim() }, { onSuccess: ({ id }) => setChosen(id) });
            setName(null);
          }}
        >
          <input
            autoFocus
            aria-label={t('preset.name')}
            placeholder={t('preset.name')}
            value={name}
            maxLength={200}
            onChange={({ target }) => setName(target.value)}
            onKeyDown={(event) => event.key === 'Escape' && setName(null)}
            className={controlClass(8)}
          />
          <Button small look="primary" type="submit" disabled={!name.trim()}>
            {t('save')}
          </Button>
        </form>
      )}
      {current && (
        <>
          {(current.system !== value.system || !same(current.parameters, value.parameters)) && (
            <Button small onClick={() => change.mutate({ preset: current, fields })}>
              {t('preset.update', { name: current.name })}
            </Button>
          )}
          <label className="flex items-center gap-1.5 text-sm">
            <input
              type="checkbox"
              className="size-4 accent-accent"
              checked={byDefault === current.id}
              onChange={({ target }) => changeSettings({ default_preset: target.checked ? current.id : null })}
            />
            {t('preset.default')}
          </label>
          <Button
            small
            look="danger"
            aria-label={t('preset.remove', { name: current.name })}
            onClick={() =>
              whenConfirmed(current.name, () => {
                remove.mutate(current);
                setChosen(null);
              })
            }
          >
            {t('remove')}
          </Button>
        </>
      )}
    </div>
  );
}
