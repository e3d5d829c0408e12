// Deletions that somebody wants to be asked about.
import { create } from 'zustand';
import { usePreferences } from './preferences';

interface Confirmation {
  asked: { what: string; run: () => void } | null;
  answer: (yes: boolean) => void;
}

export const useConfirmation = create<Confirmation>((set, get) => ({
  asked: null,
  answer: (yes) => {
    const { asked } = get();
    set({ asked: null });
    if (yes) asked?.run();
  },
}));

/** Deletes `what` at once; where the settings say so, once it was confirmed. */
export function whenConfirmed(what: string, run: () => void): void {
  if (usePreferences.getState().settings.confirm_delete) useConfirmation.setState({ asked: { what, run } });
  else run();
}
