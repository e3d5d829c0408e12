// Keys and what they do. "Mod" is Ctrl, or ⌘ on a Mac; a combination is written Mod+Alt+Shift+Key.
import { PAGES, type Page } from '@/stores/navigation';

export type Action = 'palette' | 'new_chat' | 'theme' | 'tray' | `go_${Page}`;

const pages = PAGES.map((page, at) => [`go_${page}`, `Alt+${at + 1}`] as const);
export const SHORTCUTS = {
  palette: 'Mod+K',
  new_chat: 'Alt+N',
  theme: 'Alt+T',
  tray: 'Alt+S',
  ...(Object.fromEntries(pages) as Record<`go_${Page}`, string>),
} satisfies Record<Action, string>;
export const ACTIONS = Object.keys(SHORTCUTS) as Action[];

/** What browsers keep for themselves, or what everybody expects of them. */
const TAKEN = new Set(['Mod+T', 'Mod+W', 'Mod+N', 'Mod+R', 'Mod+L', 'Mod+C', 'Mod+V', 'Mod+X', 'Mod+A', 'Mod+Z', 'Mod+P', 'Mod+Q', 'Alt+F4']);

interface Keys {
  key: string;
  code: string;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
  shiftKey: boolean;
}

/** The combination that an event is; '' while only modifiers are held. */
export function combinationOf(event: Keys): string {
  if (['Control', 'Meta', 'Alt', 'Shift', 'AltGraph', 'Dead', 'Unidentified'].includes(event.key)) return '';
  // With Alt, some keyboards write other characters: then the key's place says which it is.
  const plain = /^[\x21-\x7e]$/.test(event.key) ? event.key.toUpperCase() : undefined;
  const place = /^(?:Key|Digit)(\w)$/.exec(event.code)?.[1];
  const key = plain ?? (event.key.length > 1 ? event.key : (place ?? event.key));
  const modifiers = [
    event.ctrlKey || event.metaKey ? 'Mod' : '',
    event.altKey ? 'Alt' : '',
    event.shiftKey ? 'Shift' : '',
  ];
  return [...modifiers.filter(Boolean), key === ' ' ? 'Space' : key].join('+');
}

export function keysOf(set: Readonly<Record<string, string>>): Record<Action, string> {
  return Object.fromEntries(ACTIONS.map((action) => [action, set[action] ?? SHORTCUTS[action]])) as Record<Action, string>;
}

export type Refusal = { why: 'no_modifier' | 'taken' } | { why: 'other'; action: Action };

/** Why an action may not have these keys; undefined: it may. */
export function refusalOf(keys: Readonly<Record<Action, string>>, action: Action, combination: string): Refusal | undefined {
  if (!/^(Mod|Alt)\+/.test(combination) && !/^(Shift\+)?F\d{1,2}$/.test(combination)) return { why: 'no_modifier' };
  if (TAKEN.has(combination)) return { why: 'taken' };
  const other = ACTIONS.find((one) => one !== action && keys[one] === combination);
  return other ? { why: 'other', action: other } : undefined;
}

/** As it is written on this machine's keys. */
export function showKeys(combination: string, mac = /Mac|iP(hone|ad)/.test(navigator.platform)): string {
  return combination.replace('Mod', mac ? '⌘' : 'Ctrl').replace('Alt', mac ? '⌥' : 'Alt');
}
