// highlight.js with the languages that are asked for, each loaded when the first block of it is finished.
import type { LanguageFn } from 'highlight.js';

const languages: Record<string, () => Promise<{ default: LanguageFn }>> = {
  bash: () => import('highlight.js/lib/languages/bash'),
  c: () => import('highlight.js/lib/languages/c'),
  cpp: () => import('highlight.js/lib/languages/cpp'),
  csharp: () => import('highlight.js/lib/languages/csharp'),
  css: () => import('highlight.js/lib/languages/css'),
  diff: () => import('highlight.js/lib/languages/diff'),
  go: () => import('highlight.js/lib/languages/go'),
  java: () => import('highlight.js/lib/languages/java'),
  javascript: () => import('highlight.js/lib/languages/javascript'),
  json: () => import('highlight.js/lib/languages/json'),
  kotlin: () => import('highlight.js/lib/languages/kotlin'),
  lua: () => import('highlight.js/lib/languages/lua'),
  makefile: () => import('highlight.js/lib/languages/makefile'),
  php: () => import('highlight.js/lib/languages/php'),
  python: () => import('highlight.js/lib/languages/python'),
  ruby: () => import('highlight.js/lib/languages/ruby'),
  rust: () => import('highlight.js/lib/languages/rust'),
  sql: () => import('highlight.js/lib/languages/sql'),
  swift: () => import('highlight.js/lib/languages/swift'),
  typescript: () => import('highlight.js/lib/languages/typescript'),
  xml: () => import('highlight.js/lib/languages/xml'),
  yaml: () => import('highlight.js/lib/languages/yaml'),
};
const aliases: Record<string, string> = {
  sh: 'bash', shell: 'bash', zsh: 'bash', h: 'c', 'c++': 'cpp', cc: 'cpp', 'c#': 'csharp', cs: 'csharp', patch: 'diff',
  golang: 'go', js: 'javascript', jsx: 'javascript', mjs: 'javascript', kt: 'kotlin', make: 'makefile', py: 'python',
  rb: 'ruby', rs: 'rust', ts: 'typescript', tsx: 'typescript', html: 'xml', svg: 'xml', yml: 'yaml',
}; // prettier-ignore
const CHARACTERS_MAX = 100_000;

/** Markup of highlighted code, not yet cleaned; undefined: the language is not known, or there is too much of it. */
export async function highlight(code: string, name: string): Promise<string | undefined> {
  const language = aliases[name] ?? name;
  const load = Object.hasOwn(languages, language) ? languages[language] : undefined;
  if (!load || code.length > CHARACTERS_MAX) return undefined;
  const [{ default: hljs }, { default: grammar }] = await Promise.all([import('highlight.js/lib/core'), load()]);
  if (!hljs.getLanguage(language)) hljs.registerLanguage(language, grammar);
  return hljs.highlight(code, { language }).value;
}
