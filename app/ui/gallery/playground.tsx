import { CompletionPlayground } from '@/components/playground/CompletionPlayground';
import { EmbeddingsPlayground } from '@/components/playground/EmbeddingsPlayground';
import { VisionPlayground } from '@/components/playground/VisionPlayground';
import { part, type Part } from './part';
import { fill, press, sees, text } from './play';
import { events, never, refused } from './world';

const PIECES = [[' Paris', -0.02, ' Lyon', -4.1], ['.', -0.4, ',', -1.2], [' It', -1.7, ' The', -0.9], [' has', -0.8, ' lies', -1.5], [' tides', -3.6, ' two', -2.2]] as const;
const pieces = PIECES.map(([piece, logprob, other, less]) => ({
  choices: [{ text: piece, finish_reason: null, logprobs: { tokens: [piece], token_logprobs: [logprob], top_logprobs: [{ [piece]: logprob, [other]: less }] } }],
}));
const completes = async () => {
  await fill(text('completion.prompt'), 'The capital of France is');
  await press(text('completion.run'));
};
const TEXTS = ['A cat sleeps on the sofa.', 'A cat is sleeping on the couch.', 'int main(void) { return 0; }'];
const vectors = [[1, 0.2, 0.1], [0.95, 0.3, 0.12], [0.05, 0.4, 1]];
const embeddings = { data: vectors.map((embedding, index) => ({ index, embedding })) };
const compares = async () => {
  await fill(text('embeddings.texts'), TEXTS.join('\n'));
  await press(text('embeddings.run'));
};

export const playground: Part[] = [
  part('playground/CompletionPlayground', CompletionPlayground, {
    full: {
      props: {},
      daemon: { 'POST /v1/completions': events(...pieces, '[DONE]') },
      play: async () => {
        await completes();
        await press('·tides');
      },
    },
    busy: { props: {}, daemon: { 'POST /v1/completions': events(...pieces.slice(0, 2)) }, play: async () => { await completes(); await sees('Paris'); } },
    error: { props: {}, daemon: { 'POST /v1/completions': refused(503, 'the queue is full: 64 requests wait') }, play: async () => { await completes(); await sees('queue is full'); } },
    empty: { props: {} },
  }),
  part('playground/EmbeddingsPlayground', EmbeddingsPlayground, {
    full: { props: {}, daemon: { 'POST /v1/embeddings': embeddings }, play: async () => { await compares(); await sees('0.9'); } },
    'with a warning': {
      props: {},
      daemon: { 'POST /v1/embeddings': { ...embeddings, warnings: ['this model was made for chats: its vectors tell little'] } },
      play: async () => { await compares(); await sees('tell little'); },
    },
    busy: { props: {}, daemon: { 'POST /v1/embeddings': never }, play: compares },
    error: { props: {}, daemon: { 'POST /v1/embeddings': refused(400, 'input[1]: 9,012 tokens; the context has 8,192') }, play: async () => { await compares(); await sees('the context has'); } },
    empty: { props: {} },
  }),
  part('playground/VisionPlayground', VisionPlayground, { plain: { props: {} } }),
];
