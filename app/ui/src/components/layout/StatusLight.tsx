import { useDaemon } from '@/hooks/useDaemon';
import { useT } from '@/i18n';

type Light = 'ready' | 'busy' | 'ending' | 'gone';

const colours: Record<Light, string> = { ready: 'bg-accent', busy: 'bg-accent', ending: 'bg-warn-text', gone: 'bg-danger' };

export function useLight(): Light {
  const { data, error } = useDaemon();
  if (error || !data) return 'gone';
  if (data.state !== 'ready') return 'ending';
  return data.streams.running > 0 ? 'busy' : 'ready';
}

/** A spot that tells with its colour, and with words to who does not see it. */
export function StatusLight() {
  const t = useT();
  const light = useLight();
  return (
    <span role="img" aria-label={t(`tray.${light}`)} className={`inline-block size-2.5 rounded-full ${colours[light]} ${light === 'busy' ? 'motion-safe:animate-pulse' : ''}`} />
  );
}
