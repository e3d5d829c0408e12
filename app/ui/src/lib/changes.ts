// The text of the file of options, and what of it is new.
import type { OptionChange, OptionName } from '@/hooks/useOptions';
import { messageOf } from './format';

export interface Reading {
  /** What differs from what is saved; null: taken out. */
  change: OptionChange;
  /** Why the text is no object; ''. */
  wrong: string;
  /** Where that is, counted from 1; 0: not known. */
  line: number;
}

/** Where a parser of any browser says it stopped. */
function lineOf(text: string, message: string): number {
  const line = /line (\d+)/.exec(message)?.[1];
  const position = /position (\d+)/.exec(message)?.[1];
  if (line) return Number(line);
  return position ? text.slice(0, Number(position)).split('\n').length : 0;
}

export function readChange(text: string, saved: Readonly<Record<string, unknown>>): Reading {
  let found: unknown;
  try {
    found = JSON.parse(text.trim() || '{}');
  } catch (error) {
    const wrong = messageOf(error);
    return { change: {}, wrong, line: lineOf(text, wrong) };
  }
  if (found === null || typeof found !== 'object' || Array.isArray(found)) return { change: {}, wrong: '{…}', line: 1 };
  const now = found as Record<string, string | number | boolean>;
  const change: OptionChange = {};
  for (const [name, value] of Object.entries(now)) if (value !== saved[name]) change[name as OptionName] = value;
  for (const name of Object.keys(saved)) if (!Object.hasOwn(now, name)) change[name as OptionName] = null;
  return { change, wrong: '', line: 0 };
}

/** The line of the text that sets a member; 0: none does. */
export function lineOfMember(text: string, name: string): number {
  return text.split('\n').findIndex((line) => line.trimStart().startsWith(`"${name}"`)) + 1;
}
