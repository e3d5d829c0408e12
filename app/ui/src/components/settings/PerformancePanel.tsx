import { useOptions, type ShownOption } from '@/hooks/useOptions';
import { useT } from '@/i18n';
import { OptionRow } from './OptionRow';
import { Panel } from './SettingRow';
import { RestartNote } from './RestartNote';

const ROWS: readonly (readonly [ShownOption, 'count' | 'size' | 'flag' | readonly (string | number)[]])[] = [
  ['threads', 'count'],
  ['backend', ['', 'cpu', 'cpu-scalar', 'mlx']],
  ['kv_type', ['auto', 'f32', 'f16', 'bf16', 'i16', 'q8_0', 'q4_0']],
  ['activations', [16, 8]],
  ['kv_bytes', 'size'],
  ['expert_bytes', 'size'],
  ['kv_disk_bytes', 'size'],
  ['draft', ['none', 'ngram', 'mtp']],
  ['batch_invariant', 'flag'],
  ['memory_bytes', 'size'],
  ['ctx', 'count'],
  ['rope_scaling', ['', 'none', 'linear', 'ntk', 'yarn']],
  ['keep_alive_s', 'count'],
  ['parallel', 'count'],
  ['queue', 'count'],
  ['drain_s', 'count'],
];

/** How the daemon computes, and how much it takes on: the options that `mlxr serve` has, kept in its file. */
export function PerformancePanel() {
  const t = useT();
  const { data, error } = useOptions();
  return (
    <Panel title={t('settings.performance')}>
      {error && <p className="text-danger">{error.message}</p>}
      {data && <RestartNote options={data} />}
      {data && ROWS.map(([name, kind]) => <OptionRow key={name} options={data} name={name} kind={kind} />)}
    </Panel>
  );
}
