import { useDeferredValue, useRef, useState } from 'react';
import type { UiChat, UiFolder } from '@/api/schema';
import { Button } from '@/components/ui/Button';
import { Icon } from '@/components/ui/Icon';
import { Select } from '@/components/ui/Select';
import { useChatActions, useChats, useFolders, useSearch } from '@/hooks/useChats';
import { useT } from '@/i18n';
import { whenConfirmed } from '@/stores/confirmation';
import { useNavigation } from '@/stores/navigation';

function Row({ chat, current }: { chat: UiChat; current: boolean }) {
  const t = useT();
  const go = useNavigation((navigation) => navigation.go);
  const { data: folders = [] } = useFolders();
  const { remove, change } = useChatActions();
  const [open, setOpen] = useState(false);
  const [title, setTitle] = useState<string | null>(null);
  const name = chat.title || t('chat.untitled');
  if (title !== null) {
    const save = () => {
      if (title.trim() !== chat.title) change({ chat, fields: { title: title.trim() } });
      setTitle(null);
    };
    return (
      <form
        onSubmit={(event) => {
          event.preventDefault();
          save();
        }}
      >
        <input
          autoFocus
          aria-label={t('chat.title')}
          value={title}
          maxLength={300}
          onChange={(event) => setTitle(event.target.value)}
          onBlur={save}
          onKeyDown={(event) => event.key === 'Escape' && setTitle(null)}
          className="w-full rounded-md border border-line bg-ground px-2 py-1"
        />
      </form>
    );
  }
  return (
    <div className={`rounded-md ${current ? 'bg-accent-soft' : 'hover:bg-raised'}`}>
      <div className="flex items-center">
        <button
          type="button"
          aria-current={current ? 'true' : undefined}
          className="min-w-0 grow truncate px-2 py-1.5 text-start"
          onClick={() => go({ page: 'chat', id: chat.id })}
        >
          {chat.pinned && <Icon name="pin" className="me-1 inline text-accent" />}
          {name}
          {chat.generation !== null && <span className="ps-1 text-accent">●</span>}
        </button>
        <Button small look="ghost" aria-label={t('chat.more', { title: name })} aria-expanded={open} onClick={() => setOpen(!open)}>
          <Icon name="more" />
        </Button>
      </div>
      {open && (
        <div className="flex flex-wrap gap-1 px-2 pb-2">
          <Button small onClick={() => setTitle(chat.title)}>
            {t('chat.rename')}
          </Button>
          <Button small onClick={() => change({ chat, fields: { pinned: !chat.pinned } })}>
            {t(chat.pinned ? 'chat.unpin' : 'chat.pin')}
          </Button>
          <Button small look="danger" onClick={() => whenConfirmed(name, () => remove.mutate(chat))}>
            {t('remove')}
          </Button>
          {folders.length > 0 && (
            <Select
              label={t('folder.move')}
              value={chat.folder ?? 0}
              options={[[0, t('folder.none')], ...folders.map((folder) => [folder.id, folder.name] as const)]}
              onChange={(folder) => change({ chat, fields: { folder: folder || null } })}
              className="max-w-full"
            />
          )}
        </div>
      )}
    </div>
  );
}

function Results({ text }: { text: string }) {
  const t = useT();
  const go = useNavigation((navigation) => navigation.go);
  const { data: results, error } = useSearch(text);
  if (error) return <p className="p-2 text-danger">{error.message}</p>;
  if (results?.length === 0) return <p className="p-2 text-muted">{t('search.nothing')}</p>;
  return results?.map((result) => (
    <button
      key={`${result.chat} ${result.message ?? ''}`}
      type="button"
      className="rounded-md px-2 py-1.5 text-start hover:bg-raised"
      onClick={() => go({ page: 'chat', id: result.chat })}
    >
      <span className="block truncate">{result.title || t('chat.untitled')}</span>
      <span className="line-clamp-2 text-sm text-muted">
        {result.snippet.map(({ text: part, hit }, at) => (hit ? <mark key={at}>{part}</mark> : part))}
      </span>
    </button>
  ));
}

/** Chats by folder, search through all that was said, import. */
export function ConversationList() {
  const t = useT();
  const current = useNavigation((navigation) => navigation.place.id);
  const go = useNavigation((navigation) => navigation.go);
  const [chosen, setChosen] = useState<number>();
  const [text, setText] = useState('');
  const wanted = useDeferredValue(text.trim());
  const { data: folders = [] } = useFolders();
  // One that somebody else has deleted is none any more: all chats are shown, as the choice says.
  const open = folders.find(({ id }) => id === chosen);
  const { chats, error, hasMore, more } = useChats({ folder: open?.id });
  const { addFolder, renameFolder, removeFolder, importFile } = useChatActions();
  // A folder's name as it is written; `of` none: of a new one.
  const [naming, setNaming] = useState<{ of: UiFolder | undefined; name: string } | null>(null);
  const file = useRef<HTMLInputElement>(null);
  const saveName = () => {
    const name = naming?.name.trim();
    if (name && naming?.of && name !== naming.of.name) renameFolder.mutate({ folder: naming.of, name });
    else if (name && !naming?.of) addFolder.mutate(name);
    setNaming(null);
  };

  return (
    <aside aria-label={t('chat.chats')} className="flex h-full flex-col gap-2 border-e border-line bg-panel p-2">
      <div className="flex gap-2">
        <Button look="primary" className="grow" onClick={() => go({ page: 'chat', id: null })}>
          {t('chat.new')}
        </Button>
        <input
          ref={file}
          type="file"
          accept=".json,.md"
          hidden
          aria-label={t('chat.import')}
          onChange={({ currentTarget }) => {
            const [chosen] = currentTarget.files ?? [];
            if (chosen) importFile.mutate(chosen);
            currentTarget.value = '';
          }}
        />
        <Button title={t('chat.import')} onClick={() => file.current?.click()}>
          {t('chat.import')}
        </Button>
      </div>
      <input
        type="search"
        aria-label={t('search')}
        placeholder={t('search')}
        value={text}
        onChange={(event) => setText(event.target.value)}
        className="rounded-md border border-line bg-raised px-2 py-1.5"
      />
      <div className="flex gap-1">
        <Select
          label={t('folder')}
          value={open?.id ?? 0}
          options={[[0, t('folder.all')], ...folders.map((one) => [one.id, `${one.name} (${one.n_chats})`] as const)]}
          onChange={(id) => setChosen(id || undefined)}
          className="min-w-0 grow"
        />
        <Button small onClick={() => setNaming({ of: undefined, name: '' })}>
          {t('folder.new')}
        </Button>
        {open && (
          <>
            <Button small onClick={() => setNaming({ of: open, name: open.name })}>
              {t('chat.rename')}
            </Button>
            <Button
              small
              look="danger"
              aria-label={t('folder.remove')}
              onClick={() =>
                whenConfirmed(open.name, () => {
                  removeFolder.mutate(open);
                  setChosen(undefined);
                })
              }
            >
              <Icon name="close" />
            </Button>
          </>
        )}
      </div>
      {naming !== null && (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            saveName();
          }}
        >
          <input
            autoFocus
            aria-label={t('folder.name')}
            placeholder={t('folder.name')}
            value={naming.name}
            maxLength={200}
            onChange={(event) => setNaming({ ...naming, name: event.target.value })}
            onKeyDown={(event) => event.key === 'Escape' && setNaming(null)}
            onBlur={saveName}
            className="w-full rounded-md border border-line bg-ground px-2 py-1"
          />
        </form>
      )}
      <div className="flex min-h-0 grow flex-col gap-0.5 overflow-y-auto">
        {error && <p className="p-2 text-danger">{error.message}</p>}
        {wanted ? <Results text={wanted} /> : chats.map((chat) => <Row key={chat.id} chat={chat} current={chat.id === current} />)}
        {!wanted && hasMore && <Button onClick={more}>{t('chat.load_more')}</Button>}
      </div>
    </aside>
  );
}
