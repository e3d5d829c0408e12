// Until when a model stays in memory, for people.
import type { LoadedModel } from '@/api/types';
import type { Translate } from '@/i18n';
import { formatDuration } from '@/lib/format';

export function stayText(t: Translate, { pinned, expires_in_ms }: LoadedModel): string {
  if (pinned) return t('stats.pinned');
  if (expires_in_ms === null) return t('stats.for_ever');
  return t('stats.expires', { time: formatDuration(Math.max(0, expires_in_ms / 1000)) });
}
