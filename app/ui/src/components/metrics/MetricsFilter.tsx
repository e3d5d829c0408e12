import { Select } from '@/components/ui/Select';
import { useT } from '@/i18n';
import { useChangeSettings, useSetting } from '@/stores/preferences';

export const WINDOWS_S = [60, 300, 900, 3600] as const;

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
  const change = useChangeSettings();
  const windows = WINDOWS_S.some((one) => one === seconds) ? WINDOWS_S : [...WINDOWS_S, seconds].sort((a, b) => a - b);
  return (
    <>
      <Select
        label={t('metrics.model')}
        value={model}
        options={[['', t('metrics.all_models')], ...models.map((one) => [one, one] as const)]}
        onChange={onModel}
        size={9}
        className="max-w-72"
      />
      <Select
        label={t('metrics.window')}
        value={seconds}
        options={windows.map((one) => [one, one % 60 === 0 ? t('metrics.minutes', { n: one / 60 }) : t('metrics.seconds', { n: one })])}
        onChange={(one) => change({ chart_window_s: one })}
        size={9}
      />
    </>
  );
}
