// The keys that work on every page, as they are set.
import { useEffect } from 'react';
import { combinationOf, keysOf, ACTIONS, type Action } from '@/lib/shortcuts';
import { useNavigation, type Page } from '@/stores/navigation';
import { THEMES, usePreferences } from '@/stores/preferences';

/** `run`: what the frame of the page does by itself. */
export function useShortcuts(run: Partial<Record<Action, () => void>>): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const combination = combinationOf(event);
      if (!/^(Mod|Alt)\+|F\d/.test(combination)) return;
      const { settings, change } = usePreferences.getState();
      const keys = keysOf(settings.shortcuts);
      const action = ACTIONS.find((one) => keys[one] === combination);
      if (!action) return;
      event.preventDefault();
      const { go } = useNavigation.getState();
      if (run[action]) run[action]();
      else if (action === 'new_chat') go({ page: 'chat', id: null });
      else if (action === 'theme') change({ theme: THEMES[(THEMES.indexOf(settings.theme) + 1) % THEMES.length] ?? 'auto' });
      else if (action.startsWith('go_')) go({ page: action.slice(3) as Page });
    };
    window.addEventListener('keydown', onKey);
    return () => window.removeEventListener('keydown', onKey);
  }, [run]);
}
