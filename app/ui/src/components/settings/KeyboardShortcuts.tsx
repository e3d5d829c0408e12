import { useState } from 'react';
import { Button } from '@/components/ui/Button';
import { useT, type TextKey } from '@/i18n';
import { ACTIONS, combinationOf, keysOf, refusalOf, showKeys, SHORTCUTS, type Action } from '@/lib/shortcuts';
import type { Page } from '@/stores/navigation';
import { useChangeSettings, useSetting } from '@/stores/preferences';
import { Panel } from './SettingRow';

/** Which keys do what; a click, then the keys that shall do it. Escape leaves it as it was, Delete takes the keys away. */
export function KeyboardShortcuts() {
  const t = useT();
  const set = useSetting('shortcuts');
  const change = useChangeSettings();
  const [listening, setListening] = useState<Action | null>(null);
  const [refused, setRefused] = useState('');
  const keys = keysOf(set);
  const nameOf = (action: Action) =>
    action.startsWith('go_') ? t('palette.go', { page: t(`nav.${action.slice(3) as Page}`) }) : t(`keys.${action}` as TextKey);
  const put = (action: Action, combination: string) => {
    const others = Object.fromEntries(Object.entries(set).filter(([name]) => name !== action));
    change({ shortcuts: combination === SHORTCUTS[action] ? others : { ...others, [action]: combination } });
    setListening(null);
    setRefused('');
  };
  const take = (action: Action, combination: string) => {
    const refusal = refusalOf(keys, action, combination);
    if (!refusal) put(action, combination);
    else if (refusal.why === 'other') setRefused(t('keys.other', { keys: showKeys(combination), action: nameOf(refusal.action) }));
    else setRefused(t(`keys.${refusal.why}`, { keys: showKeys(combination) }));
  };
  return (
    <Panel title={t('keys.title')}>
      <p className="pb-2 text-sm text-muted">{t('keys.how')}</p>
      <ul>
        {ACTIONS.map((action) => (
          <li key={action} className="flex flex-wrap items-center gap-2 border-t border-line py-2 first:border-t-0">
            <span className="grow">{nameOf(action)}</span>
            <button
              type="button"
              aria-label={t('keys.change', { action: nameOf(action), keys: listening === action ? t('keys.press') : keys[action] ? showKeys(keys[action]) : t('keys.none') })}
              aria-pressed={listening === action}
              className={`min-w-32 rounded-md border px-3 py-1 font-mono text-sm ${listening === action ? 'border-accent bg-accent-soft' : 'border-line bg-ground'}`}
              onClick={() => {
                setListening(listening === action ? null : action);
                setRefused('');
              }}
              onBlur={() => setListening((now) => (now === action ? null : now))}
              onKeyDown={(event) => {
                if (listening !== action || event.key === 'Tab') return;
                const combination = combinationOf(event.nativeEvent);
                if (!combination) return;
                event.preventDefault();
                event.stopPropagation();
                event.nativeEvent.stopImmediatePropagation();
                if (combination === 'Escape') setListening(null);
                else if (combination === 'Delete' || combination === 'Backspace') put(action, '');
                else take(action, combination);
              }}
            >
              {listening === action ? t('keys.press') : keys[action] ? showKeys(keys[action]) : t('keys.none')}
            </button>
            {set[action] !== undefined && (
              <Button small look="ghost" aria-label={t('options.reset_name', { name: nameOf(action) })} onClick={() => put(action, SHORTCUTS[action])}>
                {t('options.reset')}
              </Button>
            )}
          </li>
        ))}
      </ul>
      <p role="status" className="min-h-6 text-sm text-danger">
        {refused}
      </p>
    </Panel>
  );
}
