// A text that is kept elsewhere, as somebody writes it: given away when it is left, and found again until it was taken.
import { isConflict } from '@/api/client';
import { useT } from '@/i18n';
import { messageOf } from '@/lib/format';
import { changeDraft, useDraft } from '@/stores/drafts';

export interface Written {
  text: string;
  /** Why it was not taken. */
  error: string | undefined;
  write: (text: string) => void;
  leave: () => void;
}

/** What was given away last, until it is known what became of it. */
const given = new Map<string, string>();

/** `give` fails where it is not taken. */
export function useWritten(key: `text ${string}`, value: string, give: (text: string) => Promise<unknown>): Written {
  const t = useT();
  const draft = useDraft(key);
  const leave = () => {
    // Nothing was written, or it is on its way.
    if (!draft || given.get(key) === draft.text) return;
    const { text, from = value } = draft;
    const waiting = given.has(key);
    if (!waiting) {
      if (text === value || text === from) {
        changeDraft(key, () => undefined);
        return;
      }
      // Somebody else has changed it since: that is not written over before it was told.
      if (from !== value) {
        changeDraft(key, () => ({ text, from: value, error: t('written.changed') }));
        return;
      }
    }
    given.set(key, text);
    const settle = (change: (now: string) => { text: string; from?: string; error?: string } | undefined) => {
      // Another one may be on its way by now, which says more.
      if (given.get(key) !== text) return;
      given.delete(key);
      changeDraft(key, (now) => now && change(now.text));
    };
    give(text).then(
      // What was written meanwhile was begun from this, however the place writes it.
      () => settle((now) => (now === text ? undefined : { text: now })),
      // Of a conflict he knows by this; and what it was begun from may be what was taken meanwhile.
      (reason: unknown) => settle((now) => ({ text: now, error: messageOf(reason), ...(waiting || isConflict(reason) ? {} : { from }) })),
    );
  };
  const write = (text: string) => changeDraft(key, (before) => ({ text, from: before?.from ?? value }));
  return { text: draft?.text ?? value, error: draft?.error, write, leave };
}
