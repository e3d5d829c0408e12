import { LogEntry } from '@/components/logs/LogEntry';
import LogViewer from '@/components/logs/LogViewer';
import { nothing, part, type Part } from './part';
import { fill, found, sees, text } from './play';
import { line, never, refused, trace } from './world';

export const logs: Part[] = [
  part('logs/LogViewer', LogViewer, {
    full: { props: {}, play: () => sees('POST /v1'), height: 520 },
    opened: {
      props: {},
      play: async () => {
        await fill(text('logs.filter'), 'failed');
        await sees(trace.message);
        (await found('line of an error', () => document.querySelector<HTMLElement>('[data-level=error] button'))).click();
      },
      height: 420,
    },
    'nothing found': {
      props: {},
      play: async () => {
        await sees('POST /v1');
        await fill(text('logs.filter'), 'volcano');
        await sees(text('logs.nothing'));
      },
      height: 320,
    },
    empty: { props: {}, daemon: { 'GET /ui-api/logs': never }, height: 320 },
    error: { props: {}, daemon: { 'GET /ui-api/logs': refused(403, 'this key may not read the log') }, play: () => sees('may not read'), height: 320 },
  }),
  part('logs/LogEntry', LogEntry, {
    'opened, with a trace': { props: { line: trace, open: true, onToggle: nothing } },
    info: { props: { line: line(7), open: false, onToggle: nothing } },
    warning: { props: { line: line(8, { level: 'warn', part: 'models', message: 'the template has no generation prompt: one is added' }), open: false, onToggle: nothing } },
    error: { props: { line: trace, open: false, onToggle: nothing } },
    debug: { props: { line: line(9, { level: 'debug', part: 'kv', message: '41 blocks found, 3 computed' }), open: false, onToggle: nothing } },
  }),
];
