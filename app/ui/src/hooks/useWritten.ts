// A text that is kept elsewhere, as somebody writes it: given away when it is left, and found again until it was taken.
import { messageOf } from '@/lib/format';
import { changeDraft, useDraft } from '@/stores/drafts';

interface Written {
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
  const draft = useDraft(key);
  const leave = () => {
    // Nothing was written, or it is on its way.
    if (!draft || given.get(key) === draft.text) return;
    const { text } = draft;
    if (text === value && !given.has(key)) {
      changeDraft(key, () => undefined);
      return;
    }
    given.set(key, text);
    const settle = (change: (now: string) => { text: string; error?: string } | undefined) => {
      // Another one may be on its way by now, which says more.
      if (given.get(key) !== text) return;
      given.delete(key);
      changeDraft(key, (now) => now && change(now.text));
    };
    give(text).then(
      () => settle((now) => (now === text ? undefined : { text: now })),
      (reason: unknown) => settle((now) => ({ text: now, error: messageOf(reason) })),
    );
  };
  return { text: draft?.text ?? value, error: draft?.error, write: (text) => changeDraft(key, () => ({ text })), leave };
}
