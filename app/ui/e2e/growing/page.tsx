// An answer that grows, alone on a page, for e2e/growing.test.ts.
import { flushSync } from 'react-dom';
import { createRoot } from 'react-dom/client';
import { Markdown } from '@/components/chat/Markdown';
import '@/styles.css';

const root = createRoot(document.body.appendChild(document.createElement('main')));

/** Draws the text's beginning, then, a frame each, `step` characters more. */
async function grow(text: string, from: number, step: number): Promise<void> {
  for (let n = from; n <= text.length; n += step) {
    flushSync(() => root.render(<Markdown text={text.slice(0, n)} growing />));
    document.scrollingElement?.scrollTo(0, 1e9);
    await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
  }
}

Object.assign(globalThis, { grow });
