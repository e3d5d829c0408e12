import { AttachmentButton } from '@/components/chat/AttachmentButton';
import { ChatPane } from '@/components/chat/ChatPane';
import { Composer } from '@/components/chat/Composer';
import { ConversationList } from '@/components/chat/ConversationList';
import { Message, type MessageActions } from '@/components/chat/Message';
import MessageList from '@/components/chat/MessageList';
import { ModelSelector } from '@/components/chat/ModelSelector';
import { SamplingControls } from '@/components/chat/SamplingControls';
import { TokenStream } from '@/components/chat/TokenStream';
import { ToolCallView } from '@/components/chat/ToolCallView';
import type { UiMessage } from '@/api/schema';
import { pathTo } from '@/lib/tree';
import { changeDraft } from '@/stores/drafts';
import { useNavigation } from '@/stores/navigation';
import { useStreams } from '@/stores/streams';
import { message } from '../test/fixtures';
import { nothing, part, type Part } from './part';
import { choose, fill, press, sees, text } from './play';
import {
  ANSWER, answer, call, called, chats, events, longTalk, never, otherAnswer, question, qwen, refused, result, running,
} from './world'; // prettier-ignore

const taken = () => Promise.resolve();
const actions: MessageActions = { resend: taken, editInPlace: taken, regenerate: nothing, goOn: nothing, showBranch: nothing };
const alone = (one: UiMessage, siblings: readonly UiMessage[] = [one]) => ({ message: one, siblings, results: new Map<string, string>(), actions });
const begun = ANSWER.slice(0, 330);
const comes = (content: string, reasoning = '') => () =>
  useStreams.setState({
    live: {
      [running.id]: { generation: 5, chat: 7, content, reasoning, calls: [], warnings: [], state: 'running', stats: undefined, promptTokens: 1480, contextTokens: 8192 },
    },
  });
const REASONS = 'The user wants a short answer. The bay of Saint-Malo narrows towards its end, and the tide is amplified by resonance. I give two days as the table.';
const notes = new File(['08:22 12.9\n20:47 12.7\n'], 'tides.txt', { type: 'text/plain' });
const sent = () => Promise.resolve();

export const chat: Part[] = [
  part('chat/Message', Message, {
    answer: { props: alone(answer, [answer, otherAnswer]) },
    question: { props: alone(message({ ...question, attachments: [{ name: 'tides.txt', type: 'text/plain', n_bytes: 2048 }] })) },
    editing: { props: alone(question), play: () => press(text('chat.edit')) },
    busy: { props: alone(running), before: comes(begun, REASONS) },
    stopped: { props: alone(message({ ...answer, state: 'stopped', content: begun })) },
    error: {
      props: alone(
        message({
          ...answer, state: 'failed', content: begun,
          stats: { error: { code: 'context_full', message: 'the conversation is longer than the context of 8192 tokens' }, warnings: ['3 messages at the beginning were left out'] },
        }),
      ),
    },
  }),
  part('chat/MessageList', MessageList, {
    full: { props: { shown: pathTo(longTalk(40), null), actions }, height: 560 },
    'with tools': { props: { shown: pathTo([question, called, result, { ...answer, parent: result.id }], null), actions }, height: 560 },
    busy: { props: { shown: pathTo([question, running], null), actions }, before: comes(begun), height: 420 },
    empty: { props: { shown: [], actions }, height: 200 },
  }),
  part('chat/Composer', Composer, {
    empty: { props: { chat: null, disabled: false, onStop: null, onSend: sent } },
    full: {
      props: { chat: null, disabled: false, onStop: null, onSend: sent },
      play: async () => {
        await choose(notes);
        await sees(notes.name);
        await fill(text('chat.ask'), 'Read these tides:\nwhich of them is the highest?');
      },
    },
    busy: { props: { chat: null, disabled: false, onStop: nothing, onSend: sent } },
    error: {
      props: { chat: null, disabled: false, onStop: null, onSend: sent },
      before: () => changeDraft('question new', () => ({ text: 'Which of the tides is the highest?', error: 'the model is loading' })),
    },
    'without a model': { props: { chat: null, disabled: true, onStop: null, onSend: sent } },
  }),
  part('chat/TokenStream', TokenStream, {
    full: { props: { content: ANSWER, reasoning: REASONS, running: false } },
    busy: { props: { content: begun, reasoning: '', running: true } },
    thinking: { props: { content: '', reasoning: REASONS, running: true } },
    waiting: { props: { content: '', reasoning: '', running: true } },
    json: { props: { content: '{"harbour":"Saint-Malo","high":[{"at":"08:22","m":12.9}]}', reasoning: '', running: false, json: true } },
    hostile: { props: { content: '<img src=x onerror=alert(1)>\n\n[here](javascript:alert(1)) ![p](https://example.org/p.png)', reasoning: '', running: false } },
  }),
  part('chat/ChatPane', ChatPane, {
    full: { props: { id: 7 }, height: 640 },
    new: { props: { id: null }, height: 480 },
    options: { props: { id: 7 }, play: () => press(text('chat.options')), height: 640 },
    compare: {
      props: { id: 7 },
      play: async () => {
        await sees(qwen.name);
        await press(text('compare'));
        await sees(text('compare.keep'));
      },
      height: 640,
    },
    busy: {
      props: { id: 7 },
      daemon: {
        'GET /ui-api/chats/7': { ...chats[0], leaf: running.id, generation: 5 },
        'GET /ui-api/chats/7/messages': { messages: [question, running], next: null },
        'GET /ui-api/generations/5/events': events({ n: 0, type: 'start', prompt_tokens: 1480, context_tokens: 8192 }, { n: 1, type: 'text', text: begun }),
      },
      play: () => sees(text('chat.stop')),
      height: 560,
    },
    'first run': {
      props: { id: null },
      daemon: { 'GET /ui-api/models': { models: [] }, 'GET /ui-api/loaded': { loaded: [] } },
      play: () => sees(text('first.title')),
      height: 560,
    },
    error: {
      props: { id: 7 },
      daemon: { 'GET /ui-api/chats/7': refused(404, 'there is no chat 7'), 'GET /ui-api/chats/7/messages': refused(404, 'there is no chat 7') },
      play: () => sees('there is no chat 7'),
      height: 320,
    },
  }),
  part('chat/ConversationList', ConversationList, {
    full: { props: {}, before: () => useNavigation.setState({ place: { page: 'chat', id: 7, name: null } }), height: 520 },
    found: { props: {}, play: () => fill(text('search'), 'tides'), height: 360 },
    'nothing found': {
      props: {},
      daemon: { 'GET /ui-api/search': { results: [], next: null } },
      play: async () => {
        await fill(text('search'), 'volcano');
        await sees(text('search.nothing'));
      },
      height: 280,
    },
    empty: { props: {}, daemon: { 'GET /ui-api/chats': { chats: [], next: null }, 'GET /ui-api/folders': { folders: [] } }, height: 240 },
    busy: { props: {}, daemon: { 'GET /ui-api/chats': never, 'GET /ui-api/folders': never }, height: 240 },
    error: {
      props: {},
      daemon: { 'GET /ui-api/chats': refused(400, 'the file of chats cannot be read: disk I/O error') },
      play: () => sees('disk I/O error'),
      height: 280,
    },
  }),
  part('chat/ModelSelector', ModelSelector, {
    full: { props: { value: qwen.name, onChange: nothing }, play: () => sees(qwen.name) },
    'one that is gone': { props: { value: 'mistral:7b', onChange: nothing } },
    empty: { props: { value: '', onChange: nothing }, daemon: { 'GET /ui-api/models': { models: [] } } },
  }),
  part('chat/SamplingControls', SamplingControls, {
    full: { props: { value: { temperature: 0.6, top_p: 0.95, top_k: 40, max_tokens: 2048, seed: 7 }, onChange: nothing } },
    empty: { props: { value: {}, onChange: nothing } },
  }),
  part('chat/AttachmentButton', AttachmentButton, {
    plain: { props: { onFiles: nothing } },
    error: {
      props: { onFiles: nothing },
      play: async () => {
        await choose(new File([new Uint8Array([137, 80])], 'harbour.png', { type: 'image/png' }));
        await sees('harbour.png');
      },
      height: 160,
    },
  }),
  part('chat/ToolCallView', ToolCallView, {
    full: { props: { call, result: result.content }, play: () => press(text('tool.called')) },
    folded: { props: { call, result: result.content } },
    busy: { props: { call }, play: () => press(text('tool.called')) },
    'arguments that are no JSON': { props: { call: { ...call, function: { name: 'search_tides', arguments: '{"harbour": "Saint-' } }, result: 'error: cut off' }, play: () => press(text('tool.called')) },
  }),
];
