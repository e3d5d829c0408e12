// Parts of the page that come late, or not at all: whoever asked is told, and everything else stays.
import { act, cleanup, configure, fireEvent, screen, within } from '@testing-library/react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { App } from '@/App';
import { fakeDaemon, show, withDialogs, withSizes } from './support';

configure({ asyncUtilTimeout: 15_000 });

vi.mock('@/components/layout/CommandPalette', () => Promise.reject(new Error('no palette')));
vi.mock('@/components/layout/TrayPopover', () => ({ get TrayPopover(): never { throw new Error('no tray'); } }));
vi.mock('@/components/chat/ChatPage', () => ({ default: () => 'the chat' }));

beforeEach(() => {
  withSizes();
  fakeDaemon({});
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  withDialogs();
});
afterEach(() => {
  cleanup();
  document.body.replaceChildren();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

describe('a part that cannot be loaded', () => {
  it('is the palette: its dialog says so, and is closed like any', async () => {
    show(<App />);
    await screen.findByText('the chat');
    fireEvent.click(screen.getByRole('button', { name: /^Commands/ }));
    const dialog = await screen.findByRole('dialog');
    expect(within(dialog).getByRole('alert').textContent).toContain('Something of this page failed');
    expect(screen.getByText('the chat')).toBeTruthy();
    fireEvent(dialog, new Event('close'));
    expect(screen.queryByRole('dialog')).toBeNull();
    expect(screen.getByText('the chat')).toBeTruthy();
  });
  it('is the state of the daemon: its place says so', async () => {
    show(<App />);
    await screen.findByText('the chat');
    fireEvent.click(screen.getByRole('button', { name: 'State of the daemon' }));
    expect((await screen.findByText('Something of this page failed')).parentElement?.textContent).toContain('no tray');
    expect(screen.getByText('the chat')).toBeTruthy();
  });
  it('is the page of the menu bar: nothing else is there, and it is told', async () => {
    document.body.append(Object.assign(document.createElement('div'), { id: 'root' }));
    history.replaceState(null, '', '/tray');
    await act(() => import('@/main'));
    const main = await screen.findByRole('main');
    expect(within(main).getByRole('alert').textContent).toContain('no tray');
    expect(within(main).getByText('Chats and settings lie on the server: nothing of them is lost.')).toBeTruthy();
  });
});
