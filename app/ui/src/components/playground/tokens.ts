// Tokens of a completion with what the model thought of them.
import type { Completion } from '@/api/types';

export interface Alternative {
  text: string;
  logprob: number;
}

export interface Token extends Alternative {
  /** The likeliest in its place, the best first. */
  alternatives: readonly Alternative[];
}

export function tokensOf({ choices }: Completion): Token[] {
  const found = choices[0]?.logprobs;
  if (!found) return [];
  return found.tokens.map((text, at) => ({
    text,
    logprob: found.token_logprobs[at] ?? 0,
    alternatives: Object.entries(found.top_logprobs[at] ?? {})
      .map(([other, logprob]) => ({ text: other, logprob }))
      .sort((a, b) => b.logprob - a.logprob),
  }));
}

/** How surprised the model is by a token of its text, on average. */
export const perplexityOf = (tokens: readonly Token[]): number =>
  Math.exp(-tokens.reduce((sum, { logprob }) => sum + logprob, 0) / Math.max(1, tokens.length));

/** Blanks and line ends as signs that can be seen. */
export const visible = (text: string): string => text.replaceAll('\n', '↵').replaceAll('\t', '⇥').replaceAll(' ', '·');

export function cosine(a: readonly number[], b: readonly number[]): number {
  let [dot, left, right] = [0, 0, 0];
  for (let at = 0; at < a.length; at++) {
    const [x, y] = [a[at] ?? 0, b[at] ?? 0];
    dot += x * y;
    left += x * x;
    right += y * y;
  }
  return left > 0 && right > 0 ? dot / Math.sqrt(left * right) : 0;
}
