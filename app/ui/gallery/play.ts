// What somebody does with a component, by the names that people see.
import { useTexts, type TextKey } from '@/i18n';

const PATIENCE_MS = 60_000; // a busy machine takes its time

/** In the language that is on. */
export const text: (key: TextKey, values?: Readonly<Record<string, string | number>>) => string = (...words) => useTexts.getState().t(...words);

/** What `look` finds, as soon as it finds something. */
export async function found<T>(what: string, look: () => T | null | undefined): Promise<T> {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; ) {
    const seen = look();
    if (seen !== null && seen !== undefined) return seen;
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error(`there is no ${what}`);
}

const nameOf = (element: HTMLElement): string => {
  const labels = 'labels' in element ? (element.labels as NodeListOf<HTMLElement> | null) : null;
  return (element.getAttribute('aria-label') ?? labels?.[0]?.textContent ?? element.textContent).trim();
};
const byName = (selector: string, name: string): HTMLElement | undefined =>
  [...document.querySelectorAll<HTMLElement>(selector)].find((element) => !element.matches(':disabled') && nameOf(element).startsWith(name));

export async function press(name: string): Promise<void> {
  (await found(`button ${name}`, () => byName('button, summary, [role=tab]', name))).click();
}

const fields = 'input:not([type=file]), textarea, select';

/** As if it was typed, or chosen. */
export async function fill(name: string, value: string): Promise<void> {
  const field = (await found(`field ${name}`, () => byName(fields, name))) as HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement;
  // React keeps what it has set itself: the browser's own setter tells it that there is something new.
  Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field) as object, 'value')?.set?.call(field, value);
  field.dispatchEvent(new Event(field instanceof HTMLSelectElement ? 'change' : 'input', { bubbles: true }));
}

/** A field is left: what was written counts. */
export async function leave(name: string): Promise<void> {
  const field = await found(`field ${name}`, () => byName(fields, name));
  field.focus();
  field.blur();
}

/** A file, for the only field that takes one. */
export async function choose(...files: readonly File[]): Promise<void> {
  const field = await found('field for files', () => document.querySelector<HTMLInputElement>('input[type=file]'));
  const data = new DataTransfer();
  files.forEach((file) => data.items.add(file));
  field.files = data.files;
  field.dispatchEvent(new Event('change', { bubbles: true }));
}

/** Waits until it is told somewhere. */
export const sees = (words: string): Promise<unknown> => found(`text ${words}`, () => (document.body.textContent.includes(words) ? words : null));
