// Code of an answer, highlighted when it is there.
import { cleanup, configure, render, waitFor } from '@testing-library/react';
import { afterEach, expect, it } from 'vitest';
import { Markdown } from '@/components/chat/Markdown';

configure({ asyncUtilTimeout: 15_000 });

afterEach(cleanup);

it('an answer that goes on within its code shows what comes, not the code as it was highlighted', async () => {
  const { container, rerender } = render(<Markdown text={'```js\nlet a = 1;'} />);
  const code = () => container.querySelector('pre code');
  await waitFor(() => expect(code()?.querySelector('.hljs-keyword')).toBeTruthy());
  rerender(<Markdown text={'```js\nlet a = 1;\nlet b'} growing />);
  expect(code()?.textContent).toBe('let a = 1;\nlet b');
  rerender(<Markdown text={'```js\nlet a = 1;\nlet b = 2;\n```\n'} />);
  await waitFor(() => expect(code()?.querySelectorAll('.hljs-keyword')).toHaveLength(2));
  expect(code()?.textContent).toContain('let b = 2;');
});
