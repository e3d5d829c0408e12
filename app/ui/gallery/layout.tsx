import CommandPalette from '@/components/layout/CommandPalette';
import { Navigation } from '@/components/layout/Navigation';
import { TrayPopover } from '@/components/layout/TrayPopover';
import { useNavigation } from '@/stores/navigation';
import { nothing, part, type Part } from './part';
import { fill, sees, text } from './play';
import { health, never, unreachable } from './world';

const bar = { onPalette: nothing, tray: false, onTray: nothing };

export const layout: Part[] = [
  part('layout/Navigation', Navigation, {
    full: { props: bar, before: () => useNavigation.setState({ place: { page: 'models', id: null, name: null } }) },
    'with the daemon’s state': { props: { ...bar, tray: true }, play: () => sees('0.9.0'), height: 380 },
    error: { props: bar, daemon: { 'GET /ui-api/status': unreachable } },
  }),
  part('layout/CommandPalette', CommandPalette, {
    full: { props: { onClose: nothing }, play: () => sees('Tides'), height: 620 },
    found: { props: { onClose: nothing }, play: async () => { await sees('Tides'); await fill(text('palette.open'), 'tds mlo'); }, height: 320 },
    empty: { props: { onClose: nothing }, play: async () => { await fill(text('palette.open'), 'volcano'); await sees(text('palette.nothing')); }, height: 240 },
  }),
  part('layout/TrayPopover', TrayPopover, {
    full: { props: {}, play: () => sees('0.9.0') },
    alone: { props: { alone: true }, play: () => sees('0.9.0') },
    empty: { props: {}, daemon: { 'GET /ui-api/status': { ...health, streams: { ...health.streams, running: 0, queued: 0 } }, 'GET /ui-api/loaded': { loaded: [] } } },
    busy: { props: {}, daemon: { 'GET /ui-api/status': { ...health, state: 'draining' } }, play: () => sees('0.9.0') },
    waiting: { props: {}, daemon: { 'GET /ui-api/status': never } },
    error: { props: {}, daemon: { 'GET /ui-api/status': unreachable }, play: () => sees(text('banner.offline')) },
  }),
];
