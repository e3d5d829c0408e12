import { useT } from '@/i18n';
import { usePreferences, useSetting } from '@/stores/preferences';

export const WINDOWS_S = [60, 300, 900, 3600] as const;
const control = 'min-h-9 max-w-72 rounded-md border border-line bg-raised px-2 text-sm';

interface Props {
  models: readonly string[];
  /** Empty: all of them. */
  model: string;
  onModel: (model: string) => void;
}

/** Whose figures, and of how long; the window is a setting that every browser has. */
export function MetricsFilter({ models, model, onModel }: Props) {
  const t = useT();
  const seconds = useSetting('chart_window_s');
  const change = usePreferences((preferences) => preferences.change);
  const windows = WINDOWS_S.some((one) => one === seconds) ? WINDOWS_S : [...WINDOWS_S, seconds].sort((a, b) => a - b);
  return (
    <>
      <select aria-label={t('metrics.model')} value={model} onChange={({ target }) => onModel(target.value)} className={control}>
        <option value="">{t('metrics.all_models')}</option>
        {models.map((one) => (
          <option key={one} value={one}>
            {one}
          </option>
        ))}
      </select>
      <select
        aria-label={t('metrics.window')}
        value={seconds}
        onChange={({ target }) => change({ chart_window_s: Number(target.value) })}
        className={control}
      >
        {windows.map((one) => (
          <option key={one} value={one}>
            {one % 60 === 0 ? t('metrics.minutes', { n: one / 60 }) : t('metrics.seconds', { n: one })}
          </option>
        ))}
      </select>
    </>
  );
}
