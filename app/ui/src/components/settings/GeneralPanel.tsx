import { useModels } from '@/hooks/useModels';
import { LANGUAGES, useT, type TextKey } from '@/i18n';
import { THEMES, usePreferences } from '@/stores/preferences';
import { control, Panel, SettingRow } from './SettingRow';

interface Choice {
  name: 'theme' | 'send_key' | 'show_reasoning' | 'language' | 'default_model';
  label: TextKey;
  options: readonly (readonly [value: string, text: string])[];
}

/** How the page looks and what it does by itself. */
export function GeneralPanel() {
  const t = useT();
  const { settings, change } = usePreferences();
  const { rows = [] } = useModels();
  const choices: Choice[] = [
    { name: 'theme', label: 'theme', options: THEMES.map((theme) => [theme, t(`theme.${theme}`)]) },
    { name: 'language', label: 'language', options: [['auto', t('theme.auto')], ...Object.entries(LANGUAGES)] },
    {
      name: 'default_model',
      label: 'settings.model',
      options: [['', t('settings.first_model')], ...rows.filter((row) => !row.why_not).map(({ name }) => [name, name] as const)],
    },
    {
      name: 'send_key',
      label: 'settings.send_key',
      options: [['enter', 'Enter'], ['ctrl_enter', 'Ctrl+Enter']],
    },
    {
      name: 'show_reasoning',
      label: 'settings.reasoning',
      options: [['folded', t('settings.reasoning.folded')], ['open', t('settings.reasoning.open')], ['hidden', t('settings.reasoning.hidden')]],
    },
  ]; // prettier-ignore
  const flags = [
    ['show_stats', 'settings.stats'],
    ['wrap_code', 'settings.wrap'],
    ['sidebar', 'settings.sidebar'],
    ['confirm_delete', 'settings.confirm'],
  ] as const;
  return (
    <Panel title={t('settings.general')}>
      {choices.map(({ name, label, options }) => (
        <SettingRow key={name} label={t(label)}>
          {(names) => (
            <select
              {...names}
              className={control}
              value={settings[name]}
              onChange={({ target }) => change({ [name]: target.value })}
            >
              {options.map(([value, text]) => (
                <option key={value} value={value}>
                  {text}
                </option>
              ))}
            </select>
          )}
        </SettingRow>
      ))}
      <SettingRow label={t('settings.text_size')} hint={`${settings.text_size} px`}>
        {(names) => (
          <input
            {...names}
            type="range"
            min={10}
            max={28}
            value={settings.text_size}
            className="w-48 accent-accent"
            onChange={({ target }) => change({ text_size: Number(target.value) })}
          />
        )}
      </SettingRow>
      {flags.map(([name, label]) => (
        <SettingRow key={name} label={t(label)}>
          {(names) => (
            <input
              {...names}
              type="checkbox"
              className="size-5 accent-accent"
              checked={settings[name]}
              onChange={({ target }) => change({ [name]: target.checked })}
            />
          )}
        </SettingRow>
      ))}
    </Panel>
  );
}
