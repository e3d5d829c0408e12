// KaTeX, loaded when the first formula is shown. MathML only: no style attributes, which the page's policy forbids, no fonts.
import { useEffect, useSyncExternalStore } from 'react';
import { escapeHtml, setMathRenderer } from './markdown';

let state: 'none' | 'loading' | 'ready' = 'none';
const listeners = new Set<() => void>();

async function load(): Promise<void> {
  const { renderToString } = await import('katex');
  setMathRenderer((tex, display) => {
    try {
      const options = { output: 'mathml', displayMode: display, throwOnError: true, maxSize: 20, maxExpand: 200 } as const;
      return renderToString(tex, { ...options, trust: false, strict: 'ignore' });
    } catch {
      return `<code>${escapeHtml(tex)}</code>`;
    }
  });
  state = 'ready';
  listeners.forEach((tell) => tell());
}

function want(): void {
  if (state !== 'none') return;
  state = 'loading';
  load().catch(() => {
    state = 'none';
  });
}

/** Whether formulas are shown as such; asking for it with `wanted` loads what it takes. */
export function useMath(wanted: boolean): boolean {
  useEffect(() => {
    if (wanted) want();
  }, [wanted]);
  return useSyncExternalStore(
    (tell) => {
      listeners.add(tell);
      return () => listeners.delete(tell);
    },
    () => state === 'ready',
  );
}
