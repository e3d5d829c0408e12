// Why the cache had no more of a prompt, as the daemon tells it, for people.
import type { TextKey, Translate } from '@/i18n';

const TEXTS: Readonly<Record<string, TextKey>> = {
  none: 'metrics.miss.none', new: 'metrics.miss.new', evicted: 'metrics.miss.evicted', rejected: 'metrics.miss.rejected',
  'no-room': 'metrics.miss.no_room', off: 'metrics.miss.off',
}; // prettier-ignore

/** A reason that this page does not know stays what the daemon calls it. */
export function missText(t: Translate, reason: string): string {
  const key = TEXTS[reason];
  return key ? t(key) : reason;
}
