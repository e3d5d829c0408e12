// Importing a file under a name that is taken: nothing is replaced that nobody said was to be.
import { act, cleanup, configure, fireEvent, screen, waitFor } from '@testing-library/react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ModelImport } from '@/components/models/ModelImport';
import { useModels } from '@/hooks/useModels';
import { fakeDaemon, model, sentFiles, show, withDialogs, type SentFile } from './support';

configure({ asyncUtilTimeout: 15_000 });

const lists = { 'GET /ui-api/models': { models: [model({ name: 'big' })] }, 'GET /ui-api/loaded': { loaded: [] } };
const Known = () => <p>known: {useModels().rows?.map(({ name }) => name)}</p>;
const press = (name: string) => fireEvent.click(screen.getByRole('button', { name }));
const call = (name: string) => fireEvent.change(screen.getByLabelText('Name'), { target: { value: name } });

beforeEach(withDialogs);
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

describe('a name that is taken', () => {
  it('ModelImport asks before it replaces a model, by the registry’s names', async () => {
    const folder = { path: '/srv', parent: '/', folders: [], files: [{ name: 'big.gguf', bytes: 1 << 20 }], left_out: 0, places: [] };
    const asked = fakeDaemon({ ...lists, 'GET /ui-api/directories': folder, 'POST /ui-api/models/register': {} });
    const posts = () => asked.filter(({ method }) => method === 'POST');
    const onClose = vi.fn();
    show(<><Known /><ModelImport onClose={onClose} /></>); // prettier-ignore
    press('A file on the daemon’s machine');
    fireEvent.click(await screen.findByText('big.gguf'));
    await screen.findByText('known: big');
    press('Import');
    expect((await screen.findByRole('alert')).textContent).toContain('There is a model of the name big.');
    call('big:latest');
    expect(screen.queryByRole('alert')).toBeNull();
    press('Import');
    expect(screen.getByRole('alert').textContent).toContain('big:latest');
    call('big');
    press('Import');
    expect(posts()).toEqual([]);
    press('Replace big');
    await waitFor(() => expect(onClose).toHaveBeenCalled());
    expect(posts()).toEqual([{ method: 'POST', url: '/ui-api/models/register?replace=true', body: { path: '/srv/big.gguf', name: 'big' } }]);
  });
  it('ModelImport asks when the daemon says that the name was taken meanwhile', async () => {
    const sent: SentFile[] = [];
    vi.stubGlobal('XMLHttpRequest', sentFiles(sent));
    fakeDaemon(lists);
    const onClose = vi.fn();
    show(<ModelImport onClose={onClose} />);
    fireEvent.change(screen.getByLabelText('A file of this computer'), { target: { files: [new File(['GGUF'], 'new.gguf')] } });
    press('Import');
    await waitFor(() => expect(sent).toHaveLength(1));
    act(() => sent[0]?.ask.answer(409, { error: { message: 'name: there is a model new already', code: 'name_taken' } }));
    expect((await screen.findByRole('alert')).textContent).toContain('There is a model of the name new.');
    expect(onClose).not.toHaveBeenCalled();
    press('Replace new');
    await waitFor(() => expect(sent).toHaveLength(2));
    act(() => sent[1]?.ask.answer(201, {}));
    await waitFor(() => expect(onClose).toHaveBeenCalled());
    expect(sent.map(({ url }) => url)).toEqual(['/ui-api/models/import?name=new', '/ui-api/models/import?name=new&replace=true']);
  });
});
