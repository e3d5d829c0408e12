// What somebody writes and nobody has taken yet, by what it is for: found again behind another chat, another page, a reload.
// A copy lies in the storage of this tab, until it is taken or the tab is closed.
import { create } from 'zustand';
import type { UiAttachmentFields, UiParameters } from '@/api/schema';

interface Kinds {
  /** Of a chat, or of one that is not begun; `error`: why the daemon did not take it. */
  question: { text: string; error?: string };
  /** With such a question. By themselves: they may be more than there is room for, and need not be stored anew at every word. */
  files: readonly UiAttachmentFields[];
  /** Of a message; its revision when that began, 0: whichever it has now. */
  edit: { text: string; revision: number };
  /** What a chat that is not begun is to be made with. */
  options: { system: string; parameters: UiParameters; model: string };
  /** Of a place that keeps a text; `from`: what that was when it was begun. */
  text: { text: string; from?: string; error?: string };
}
/** The kind, and what it is of. */
export type DraftKey = `${keyof Kinds} ${string}`;
type DraftOf<K extends DraftKey> = K extends `${infer Kind extends keyof Kinds} ${string}` ? Kinds[Kind] : never;

interface Drafts {
  drafts: Readonly<Record<string, unknown>>;
  /** What is on its way to the daemon. */
  sending: readonly string[];
}

const PREFIX = 'mlxr.draft.';
const PAUSE_MS = 300;

function stored(): Drafts['drafts'] {
  const found: Record<string, unknown> = {};
  try {
    for (const [name, value] of Object.entries(sessionStorage) as [string, string][]) {
      if (name.startsWith(PREFIX)) found[name.slice(PREFIX.length)] = JSON.parse(value);
    }
  } catch {
    // A browser that keeps nothing, or something else's: then there is what there is.
  }
  return found;
}

export const useDrafts = create<Drafts>(() => ({ drafts: stored(), sending: [] }));

let fresh = new Set<string>();
let timer: ReturnType<typeof setTimeout> | undefined;

/** Into the storage of the tab. Where there is no room for it, it is in memory alone. */
export function storeDrafts(): void {
  clearTimeout(timer);
  timer = undefined;
  const { drafts } = useDrafts.getState();
  for (const key of fresh) {
    const draft = drafts[key];
    try {
      // What was there is not what is written now, even if there is no room for that.
      sessionStorage.removeItem(PREFIX + key);
      if (draft !== undefined) sessionStorage.setItem(PREFIX + key, JSON.stringify(draft));
    } catch {
      // As above.
    }
  }
  fresh = new Set();
}
addEventListener('pagehide', storeDrafts);

/** undefined: there is nothing to be kept. */
export function changeDraft<K extends DraftKey>(key: K, change: (before: DraftOf<K> | undefined) => DraftOf<K> | undefined): void {
  const { [key]: before, ...others } = useDrafts.getState().drafts;
  const draft = change(before as DraftOf<K> | undefined);
  useDrafts.setState({ drafts: draft === undefined ? others : { ...others, [key]: draft } });
  fresh.add(key);
  timer ??= setTimeout(storeDrafts, PAUSE_MS);
}

export const useDraft = <K extends DraftKey>(key: K): DraftOf<K> | undefined => useDrafts(({ drafts }) => drafts[key] as DraftOf<K> | undefined);
/** The text of a place, where nobody else keeps it; '': none. */
export function useText(key: `text ${string}`): [string, (text: string) => void] {
  const draft = useDraft(key);
  return [draft?.text ?? '', (text) => changeDraft(key, () => (text ? { text } : undefined))];
}
export const useSending = (key: DraftKey): boolean => useDrafts(({ sending }) => sending.includes(key));

/** Of one draft, one at a time: whoever looks at it meanwhile sees that it is on its way. */
export async function sendDraft(key: DraftKey, send: () => Promise<unknown>): Promise<void> {
  if (useDrafts.getState().sending.includes(key)) return;
  useDrafts.setState(({ sending }) => ({ sending: [...sending, key] }));
  try {
    await send();
  } finally {
    useDrafts.setState(({ sending }) => ({ sending: sending.filter((one) => one !== key) }));
  }
}

const optionsOf = (chat: number | 'new') => (['options', 'text system', 'text schema', 'text last-schema'] as const).map((kind): DraftKey => `${kind} ${chat}`);

/** What a chat that is not begun was to be made with: one was. */
export const forgetNew = (): void => optionsOf('new').forEach((key) => changeDraft(key, () => undefined));

/** What was written in a chat that is no more, and of these messages; gives back what brings it back. */
export function forgetChat(chat: number, messages: readonly number[]): () => void {
  const edits = messages.flatMap((id): DraftKey[] => [`edit ${id}`, `edit beside ${id}`]);
  const { drafts } = useDrafts.getState();
  const gone = [`question ${chat}` as const, `files ${chat}` as const, ...optionsOf(chat), ...edits].filter((key) => key in drafts);
  for (const key of gone) changeDraft(key, () => undefined);
  return () => gone.forEach((key) => changeDraft(key, (now) => now ?? (drafts[key] as DraftOf<DraftKey>)));
}
