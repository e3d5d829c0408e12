// Texts by key, in JSON catalogues; English is part of the page, the others are loaded when they are chosen.
import { create } from 'zustand';
import en from './en.json';

export type TextKey = keyof typeof en;
export const LANGUAGES = { en: 'English', de: 'Deutsch', fr: 'Français', es: 'Español' } as const;
export type Language = keyof typeof LANGUAGES;
type Catalogue = Partial<Record<TextKey, string>>;
export type Translate = (key: TextKey, values?: Readonly<Record<string, string | number>>) => string;

const others: Record<Exclude<Language, 'en'>, () => Promise<{ default: Catalogue }>> = {
  de: () => import('./de.json'),
  fr: () => import('./fr.json'),
  es: () => import('./es.json'),
};

export function translator(catalogue: Catalogue): Translate {
  return (key, values = {}) =>
    (catalogue[key] ?? en[key]).replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

const isLanguage = (name: string): name is Language => Object.hasOwn(LANGUAGES, name);

/** The first of the browser's languages that there is a catalogue for. */
export function languageOf(wanted: readonly string[]): Language {
  return wanted.map((tag) => tag.slice(0, 2).toLowerCase()).find(isLanguage) ?? 'en';
}

interface Texts {
  language: Language;
  t: Translate;
  setLanguage: (language: Language) => Promise<void>;
}

export const useTexts = create<Texts>((set) => ({
  language: 'en',
  t: translator(en),
  setLanguage: async (language) => {
    const catalogue = language === 'en' ? en : (await others[language]()).default;
    document.documentElement.lang = language;
    set({ language, t: translator(catalogue) });
  },
}));

export const useT = (): Translate => useTexts((texts) => texts.t);
