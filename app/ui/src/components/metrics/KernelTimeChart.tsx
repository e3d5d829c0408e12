import { useMutation } from '@tanstack/react-query';
import { useEffect, useMemo, useRef, useState } from 'react';
import { api } from '@/api/client';
import type { Profile, ProfilePhase } from '@/api/types';
import { Button } from '@/components/ui/Button';
import { Select } from '@/components/ui/Select';
import { useT } from '@/i18n';
import { formatMs, formatShare } from '@/lib/format';
import { Chart, type Line } from './Chart';

const PHASES = ['decode', 'prompt', 'draft'] as const;
type Phase = (typeof PHASES)[number];
const RECORDING = { steps: 500, seconds: 10, idle_seconds: 5 };

function Times({ phase }: { phase: ProfilePhase }) {
  const t = useT();
  const layers = useMemo(() => phase.layers.filter(({ layer }) => layer !== null), [phase]);
  const x = useMemo(() => layers.map(({ layer }) => layer ?? 0), [layers]);
  const lines = useMemo<Line[]>(() => [{ label: 'ms', colour: 'accent', values: layers.map(({ ms }) => ms) }], [layers]);
  return (
    <div className="grid gap-4">
      <table className="self-start text-sm">
        <caption className="pb-1 text-start text-muted">
          {t('profile.steps', { n: phase.steps, tokens: phase.rows, time: formatMs(phase.ms) })}
        </caption>
        <thead className="text-muted">
          <tr>
            <th scope="col" className="pe-3 text-start font-normal">{t('profile.operation')}</th>
            <th scope="col" className="text-end font-normal">{t('profile.time')}</th>
            <th scope="col" className="w-1/3 ps-3 text-start font-normal">{t('profile.share')}</th>
          </tr>
        </thead>
        <tbody>
          {phase.operations.map(({ operation, ms, share }) => (
            <tr key={operation}>
              <th scope="row" className="pe-3 text-start font-mono text-xs font-normal">{operation}</th>
              <td className="text-end whitespace-nowrap tabular-nums">{formatMs(ms)}</td>
              <td className="ps-3">
                <span className="flex items-center gap-2">
                  <span aria-hidden="true" className="h-2.5 rounded-sm bg-accent" style={{ width: `${share * 70}%` }} />
                  <span className="whitespace-nowrap tabular-nums">{formatShare(share)}</span>
                </span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {layers.length > 0 && <div className="min-w-0">
        <p className="text-sm text-muted">{t('profile.layers')}</p>
        <Chart bars label={t('profile.layers')} x={x} lines={lines} format={formatMs} />
      </div>}
    </div>
  );
}

/** The engine's next steps, by operation and layer. */
export function KernelTimeChart() {
  const t = useT();
  const [chosen, setChosen] = useState<Phase>('decode');
  const gone = useRef<AbortController>(null);
  const { mutate, data, error, isPending } = useMutation({
    mutationFn: async () => {
      gone.current = new AbortController();
      return (await api('POST /ui-api/profile', { body: RECORDING, signal: gone.current.signal })) as Profile;
    },
  });
  // Who leaves ends the recording.
  useEffect(() => () => gone.current?.abort(), []);
  const there = PHASES.filter((phase) => (data?.phases[phase]?.steps ?? 0) > 0);
  const phase = there.includes(chosen) ? chosen : there[0];
  const times = phase && data?.phases[phase];
  return (
    <>
      <div className="flex flex-wrap items-center gap-2">
        <Button small onClick={() => mutate()} disabled={isPending}>
          {t('profile.record')}
        </Button>
        {phase && (
          <Select label={t('profile.phase')} value={phase} options={there.map((one) => [one, t(`profile.phase.${one}`)])} onChange={setChosen} />
        )}
        <span role="status" className="text-sm text-muted">
          {isPending ? t('profile.recording') : data && !phase ? t('profile.nothing') : ''}
        </span>
      </div>
      {error && <p className="text-danger">{error.message}</p>}
      {times && <Times phase={times} />}
    </>
  );
}
